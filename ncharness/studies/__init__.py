"""Experiments of the wider literature, by subject: each function takes its settings by keyword and returns rows.

Every module defines VERSION and SECONDS. VERSION is raised when a change of the module changes the rows of its studies.
SECONDS estimates how long each of its experiments takes on one core. Random draws come from torch's global generator,
which is seeded before the call by the seed alone: studies of one seed that differ in a setting share their draws as far
as they make the same ones.
"""
