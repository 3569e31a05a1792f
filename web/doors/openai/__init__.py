"""The door for OpenAI's SDKs: pictures made, edited and varied, held until they are there."""
