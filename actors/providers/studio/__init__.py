"""The embedded AI service: portrait photography and virtual fitting on the CPU.

Everything here except `provider` runs in an image child (`actors.images.child_program`), never in a worker: numpy,
Pillow and the models are imported there alone, so a worker stays small and a picture that crashes native code
costs one child.
"""
