"""Alembic migrations, run by storage.migrate; found as package data, so an installed copy needs no
alembic.ini.
"""
