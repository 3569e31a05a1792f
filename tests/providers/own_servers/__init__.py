"""Self-hosted servers: cog, ComfyUI, Gradio, and their descriptions of themselves."""
