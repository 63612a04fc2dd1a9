"""Results for people: terminal tables, figures, and the HTML page."""
