"""Work that several parts share: batches of submissions, queue positions, the sweep."""
