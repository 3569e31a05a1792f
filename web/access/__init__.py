"""Who is let in: tokens, the start cookie of this host, pages of other origins."""
