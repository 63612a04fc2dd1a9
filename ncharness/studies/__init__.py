"""Experiments of the wider literature, by subject: each function takes its settings by keyword and returns rows.

A module states VERSION, raised when a change of it changes the rows that its studies yield, and SECONDS, roughly how
long each of its experiments takes one core. Random draws come from torch's global generator, which is seeded around
the call, by the seed alone: studies of one seed that differ in a setting share their draws as far as they make the
same ones.
"""
