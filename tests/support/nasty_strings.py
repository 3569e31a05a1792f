"""Strings that once found a fault, and the obvious candidates: add each further one here."""

FAR = "9999-12-31T23:59:59.999"
NASTY = (
    "", " ", "\0", "a\0b", "%00", "%", "%zz", "%ff%fe", "\ud800", "a\udfffb", "\ufffe", "\u2028", "\u202e", "\x7f",
    "\x1b[2J", "\u0661\u0662", "\U0001d7d9", "-1", "00", "1e400", "NaN", "Infinity", "null", "9" * 400, str(2**63),
    str(2**31), f"-{2**63}", "0" * 5000, "x" * 5000, "[" * 2000, "'; DROP TABLE works; --", '"\\', "../..", "a/b", ".",
    "\u4f60" * 200, f"{FAR}Z", f"{FAR}9Z", f"{FAR}-12:00", f"{FAR}+14:00", "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-12-31T23:59:60Z",
    # Of the shape of a cursor, an event id, a link, a token.
    f"{FAR}Z~x", "9999-99-99T99:99:99.999Z~x", "0000-00-00T00:00:00.000Z~x", "2026-01-01T00:00:00.000Z~\0",
    "2026-01-01T00:00:00.000Z~\ud800", "2026-01-01T00:00:00.000Z", "~", "~x", f"2026-01-01T00:00:00.000Z~{'x' * 65}",
    "abcdef-1", f"abcdef-{2**63}", f"abcdef-{'9' * 400}", "abcdef-\u0661", "-", "a.b.c", "eyJhbGciOiJIUzI1NiJ9.e30.x",
)  # fmt: skip
