"""All SQL of the program: named functions of a transaction, each with a sentence.

Only this package speaks to the tables.  Times come from the database's clock, in SQL.
"""
