"""The embedded AI service: portraits, virtual fitting, cut-outs and enlargements on the CPU.

Everything here except `provider` runs in a child process that holds it as a model (`actors.providers.warm`), never in a
worker: numpy, Pillow and the models are imported there alone, so a worker stays small and a picture that crashes
native code costs one child.
"""
