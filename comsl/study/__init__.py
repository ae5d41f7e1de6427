"""Studies: arms that differ in one thing each, several seeds, several test sets, and one page that compares them."""
