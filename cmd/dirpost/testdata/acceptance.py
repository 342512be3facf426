# A longer life of a mailbox with the clients of Python's standard library: many
# messages, searches, moves, renames, partial fetches, two sessions, POP3.
import imaplib, poplib, re, smtplib, ssl, sys

host, submission, imaps, pop3s, ca, user, password = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)
count = 120


def message(i):
    size = 20000 if i % 40 == 0 else 200
    return (
        f"From: alice@corp.example\r\nTo: {user}@corp.example\r\nSubject: Nummer {i} {'gerade' if i % 2 == 0 else 'ungerade'}\r\n"
        f"Message-ID: <life-{i}@corp.example>\r\nDate: Sat, 21 Nov 2026 10:{i % 60:02}:00 +0000\r\n\r\n"
        + f"Text of {i}.\r\n.\r\n" + ("x" * 70 + "\r\n") * (size // 72)
    ).encode()


def login():
    c = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=tls, timeout=60)
    c.login(user, password)
    return c


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def search(c, *keys):
    return ok(c.uid("SEARCH", *keys))[0].split()


with smtplib.SMTP(host, int(submission), timeout=60) as smtp:
    smtp.starttls(context=tls)
    smtp.login("alice", password)
    for i in range(count):
        smtp.sendmail("alice@corp.example", [f"{user}@corp.example"], message(i))
    try:
        smtp.sendmail("bob@corp.example", [f"{user}@corp.example"], message(0))
        raise AssertionError("alice sends as bob")
    except smtplib.SMTPException:
        pass

a, b = login(), login()
assert ok(a.select("INBOX")) == [str(count).encode()]
ok(b.select("INBOX"))
uids = search(a, "ALL")
assert len(uids) == count and uids == sorted(uids, key=int)

# Content, whole and in parts.
for i in (0, 1, count - 1):
    data = ok(a.uid("FETCH", uids[i], "(BODY.PEEK[] RFC822.SIZE)"))
    whole = data[0][1]
    assert whole.endswith(message(i)), whole[:300]
    assert int(re.search(rb"RFC822.SIZE (\d+)", data[0][0] + data[1]).group(1)) == len(whole)
    parts = b""
    while True:
        got = ok(a.uid("FETCH", uids[i], f"(BODY.PEEK[]<{len(parts)}.1000>)"))
        if not isinstance(got[0], tuple) or not got[0][1]:
            break
        parts += got[0][1]
    assert parts == whole
    header = ok(a.uid("FETCH", uids[i], "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))[0][1]
    assert header.startswith(b"Subject: Nummer %d " % i), header
    body = ok(a.uid("FETCH", uids[i], "(BODY.PEEK[TEXT])"))[0][1]
    assert body == message(i).split(b"\r\n\r\n", 1)[1]

# Searches.
assert len(search(a, "SUBJECT", "ungerade")) == count // 2
assert len(search(a, "NOT", "SUBJECT", "ungerade")) == count // 2
assert search(a, "HEADER", "Message-ID", "<life-7@corp.example>") == [uids[7]]
assert search(a, "BODY", '"Text of 11."') == [uids[11]]
assert len(search(a, "LARGER", "10000")) == count // 40
assert len(search(a, "OR", "LARGER", "10000", "SUBJECT", '"Nummer 7 u"')) == count // 40 + 1
assert search(a, "UNSEEN", "UID", f"{uids[3].decode()}:{uids[5].decode()}") == uids[3:6]

# Flags, seen by the other session.
ok(a.uid("STORE", b",".join(uids[::3]).decode(), "+FLAGS.SILENT", r"(\Flagged Projekt)"))
ok(b.noop())
assert search(b, "FLAGGED") == uids[::3] and search(b, "KEYWORD", "Projekt") == uids[::3]
ok(b.uid("STORE", uids[0].decode(), "-FLAGS", "(Projekt)"))
ok(a.noop())
got = search(a, "KEYWORD", "Projekt")
assert got == uids[::3][1:], (got, uids[::3], a.uid("FETCH", uids[0], "(FLAGS)"), b.uid("FETCH", uids[0], "(FLAGS)"))

# Mailboxes: hierarchy, names in other scripts, rename with inferiors, move and copy.
for name in ("Projekt", "Projekt/eins", "Projekt/eins/tief", '"Gr&APwA3w-e"'):
    ok(a.create(name))
ok(a.subscribe("Projekt/eins"))
ok(a.uid("COPY", f"{uids[0].decode()}:{uids[9].decode()}", "Projekt/eins"))
ok(a.uid("MOVE", f"{uids[10].decode()}:{uids[19].decode()}", "Projekt/eins/tief"))
ok(b.noop())
assert len(search(b, "ALL")) == count - 10
ok(a.rename("Projekt", "Ablage"))
assert ok(a.status("Ablage/eins", "(MESSAGES UNSEEN)")) == [b'Ablage/eins (MESSAGES 10 UNSEEN 10)'], a.status("Ablage/eins", "(MESSAGES UNSEEN)")
assert ok(a.select("Ablage/eins/tief")) == [b"10"]
moved = search(a, "ALL")
data = ok(a.uid("FETCH", moved[0], "(BODY.PEEK[])"))[0][1]
assert data.endswith(message(10))
ok(a.select("INBOX"))
assert a.select("Projekt")[0] == "NO"
ok(a.select("INBOX"))

# Drafts: append, replace, expunge one of two by UID.
_, (answer,) = a.append("Drafts", r"(\Draft)", None, message(500))
first = re.search(rb"APPENDUID (\d+) (\d+)", answer).group(2)
_, (answer,) = a.append("Drafts", r"(\Draft)", None, message(501))
second = re.search(rb"APPENDUID (\d+) (\d+)", answer).group(2)
ok(a.select("Drafts"))
ok(a.uid("STORE", first.decode() + "," + second.decode(), "+FLAGS", r"(\Deleted)"))
ok(a._simple_command("UID", "EXPUNGE", first.decode()))
assert search(a, "ALL") == [second]

# Delete and expunge in one session, told in the other.
ok(a.select("INBOX"))
rest = search(a, "ALL")
ok(a.uid("STORE", b",".join(rest[-20:]).decode(), "+FLAGS", r"(\Deleted)"))
ok(a.expunge())
ok(b.noop())
assert search(b, "ALL") == rest[:-20]
for name in ("Ablage/eins/tief", "Ablage/eins", "Ablage"):
    ok(a.delete(name))
a.logout()
b.logout()

# POP3 sees the INBOX as it is; DELE without QUIT is nothing.
left = count - 30
pop = poplib.POP3_SSL(host, int(pop3s), context=tls, timeout=60)
pop.user(user)
pop.pass_(password)
assert pop.stat()[0] == left, pop.stat()
names = pop.uidl()[1]
assert len(set(names)) == left
assert b"\r\n".join(pop.top(1, 1)[1]).endswith(b"Text of 0."), pop.top(1, 1)
pop.dele(1)
pop.rset()
assert pop.stat()[0] == left
pop.dele(1)
pop.close()  # no QUIT
pop = poplib.POP3_SSL(host, int(pop3s), context=tls, timeout=60)
pop.user(user)
pop.pass_(password)
assert pop.uidl()[1] == names
for i in range(1, left + 1):
    pop.dele(i)
pop.quit()
c = login()
assert ok(c.select("INBOX")) == [b"0"]
c.logout()
print("life: ok")
