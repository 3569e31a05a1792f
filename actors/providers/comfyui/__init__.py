"""ComfyUI: a workflow of nodes, kept as a file, run once for each order.

`service` reads the settings, `workflow` the file, `history` and `progress` judge the server's answers (pure);
`provider` is the adapter.
"""
