"""Servers of one's own: cog, ComfyUI, Gradio, and what they say of themselves."""
