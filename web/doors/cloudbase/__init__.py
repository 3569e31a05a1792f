"""The door of CloudBase's server SDKs, `POST /tcb/admin`: what their database calls mean here.

A thin translation without a state of its own.  `signature` says whether a call is signed, `ejson` reads and writes the
notation, `queries` what a call looks for, `orders` what it asks to be made or changed, `documents` what it is shown;
`door` joins them to the one way in which tasks are submitted, cancelled, retried and read.
"""
