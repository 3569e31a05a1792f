"""The interface for CloudBase's server SDKs, `POST /tcb/admin`: their database calls.

A thin translation without its own state.  `signature` checks a call's signature, `ejson` reads and writes the notation,
`queries` reads searches, `orders` reads orders and updates, `documents` makes answers; `door` connects them to the
usual functions that submit, cancel, retry and read tasks.
"""
