"""The dispatcher: who of several works, and what one costs that has nothing to do."""
