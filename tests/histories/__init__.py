"""The model test: random histories of the whole system over the real store, checked by an independent model.

All processes share one thread and take turns. The parts are the product's own code: dispatchers, workers, attempts,
polls, sweeps. A seed decides which process runs next, how long each transaction takes, what the AI services answer and
which faults happen. Time is simulated: an hour of waiting costs nothing. Only clock, chance, broker and AI services are
fakes.
"""
