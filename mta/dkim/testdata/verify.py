# Verifies every DKIM-Signature of the message on standard input with
# python3-dkim. Arguments: name=record of each key. Prints a line for each
# signature: its algorithm, and whether it is valid.
import sys

import dkim

records = dict(a.split("=", 1) for a in sys.argv[1:])


def lookup(name, timeout=5):
    return records[name.decode().rstrip(".")].encode()


message = sys.stdin.buffer.read()
d = dkim.DKIM(message)
for i in range(sum(1 for name, _ in d.headers if name.lower() == b"dkim-signature")):
    d = dkim.DKIM(message)
    valid = d.verify(idx=i, dnsfunc=lookup)
    print(d.signature_fields[b"a"].decode(), valid)
