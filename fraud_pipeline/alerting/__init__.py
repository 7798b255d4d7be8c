"""Alerts on their way to people: notifications, where they go, and what becomes of those that don't arrive."""
