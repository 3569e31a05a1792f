"""`make chaos`: a thousand tasks while every process of `darkroom up` is killed, frozen or restarted at random.

`plan` draws the faults from a seed. `house` applies them to the processes of its own `darkroom up`. Meanwhile
`producers` send orders and `recorder` records every user's feed. At the end `reader`, which shares no code with
Darkroom, compares the database with the orders and the feeds.
"""
