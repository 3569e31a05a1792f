"""The model test: random histories of the whole system over the real store, checked by an independent model.

Everything runs in one thread's turns.  The parts are the product's own code (dispatchers, workers, attempts, polls,
sweeps); a seed decides who goes on, how long each transaction takes, what the AI services answer and what breaks.
Time is the world's own: an hour of waiting costs nothing.  Fakes stand for clock, chance, broker and AI services only.
"""
