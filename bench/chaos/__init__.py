"""`make chaos`: a thousand tasks while every process of `darkroom up` is killed, frozen or restarted at random.

`plan` draws what is done from a seed, `house` does it to the processes of its own `darkroom up`, `producers` hand in
the orders meanwhile, `recorder` writes down every user's feed.  When all is over `reader`, which shares no code with
Darkroom, reads the database and compares it with what was ordered and what was seen.
"""
