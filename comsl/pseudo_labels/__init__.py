"""Translations that a text model makes of transcribed clips which nobody has translated, as training rows."""
