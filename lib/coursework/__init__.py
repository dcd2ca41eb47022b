"""Coursework: what the exercises of every chapter share."""
