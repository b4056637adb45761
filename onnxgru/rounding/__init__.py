"""How weights become codes: one method a module."""
