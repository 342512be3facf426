# Drives a POP3 server with Python's poplib: STLS, TLS, every command, and that
# DELE happens at QUIT only.
import poplib
import ssl
import sys

port, secure_port, ca, password = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
context = ssl.create_default_context(cafile=ca)


def starttls():
    c = poplib.POP3("127.0.0.1", port, timeout=30)
    assert "STLS" in c.capa(), c.capa()
    c.stls(context=context)
    assert "STLS" not in c.capa(), c.capa()
    return c


def implicit():
    return poplib.POP3_SSL("127.0.0.1", secure_port, timeout=30, context=context)


def login(connect):
    c = connect()
    c.user("alice")
    c.pass_(password)
    return c


c = implicit()
try:
    c.user("alice")
    c.pass_("wrong")
    raise AssertionError("wrong password accepted")
except poplib.error_proto as e:
    assert b"[AUTH]" in e.args[0], e
c.close()

for connect in starttls, implicit:
    c = login(connect)
    count, octets = c.stat()
    assert count == 3, count
    sizes = [int(line.split()[1]) for line in c.list()[1]]
    assert sum(sizes) == octets
    assert len(set(c.uidl()[1])) == 3
    for i, size in enumerate(sizes):
        _, lines, _ = c.retr(i + 1)
        assert len(b"\r\n".join(lines)) + 2 == size, (i, size)
    assert c.retr(1)[1] == [b"Subject: one", b"", b".dot"]
    assert c.top(3, 2)[1][1:] == [b"", b"0", b".7919"], c.top(3, 2)
    c.noop()
    c.dele(1)
    c.rset()
    c.dele(2)
    c.close()  # without QUIT

c = login(starttls)
assert c.stat()[0] == 3
for i in 1, 2, 3:
    c.dele(i)
c.quit()
c = login(implicit)
assert c.stat() == (0, 0), c.stat()
c.quit()
print("ok")
