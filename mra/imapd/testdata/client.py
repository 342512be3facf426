# RFC 3501 as Python's imaplib speaks it.
import imaplib, sys, time

port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def check(got, want, what):
    if got != want:
        sys.exit("%s: %r, want %r" % (what, got, want))


m = imaplib.IMAP4("127.0.0.1", port)
check(m.login(user, password)[0], "OK", "login")
typ, data = m.select("INBOX")
check((typ, data), ("OK", [b"3"]), "select")
typ, data = m.search(None, "SUBJECT", '"message 2"')
check(data, [b"2"], "search")
typ, data = m.fetch("2", "(RFC822)")
check(data[0][1].split(b"\r\n")[-2], b"Body 2", "fetch")
typ, data = m.fetch("1:3", "(UID FLAGS ENVELOPE BODYSTRUCTURE INTERNALDATE)")
check(len(data), 3, "fetch of three")
typ, data = m.store("1", "+FLAGS", "(\\Flagged)")
check(data, [b"1 (FLAGS (\\Flagged \\Recent))"], "store")
msg = "Subject: caf\u00e9\r\n\r\nhello\r\n".encode()
typ, data = m.append('"Sent"', "(\\Seen)", imaplib.Time2Internaldate(time.time()), msg)
check(typ, "OK", "append")
typ, data = m.select("Sent", readonly=True)
check(data, [b"1"], "select of Sent")
typ, data = m.uid("FETCH", "1", "(BODY.PEEK[])")
check(data[0][1], msg, "message appended")
typ, data = m.list()
check(typ, "OK", "list")
check(b'(\\HasNoChildren) "/" INBOX' in data, True, "INBOX in %r" % data)
typ, data = m.status("INBOX", "(MESSAGES UNSEEN)")
check(data, [b"INBOX (MESSAGES 3 UNSEEN 2)"], "status")
typ, data = m.create("Projekte/&ZeVnLIqe-")
check(typ, "OK", "create")
typ, data = m.select("INBOX")
typ, data = m.copy("1:2", "Projekte/&ZeVnLIqe-")
check(typ, "OK", "copy")
typ, data = m.store("1", "+FLAGS", "\\Deleted")
typ, data = m.expunge()
check(data, [b"1"], "expunge")
typ, data = m.uid("SEARCH", "CHARSET", "UTF-8", "ALL")
check(data, [b"2 3"], "uid search")
check(m.namespace()[1], [b'(("" "/")) NIL (("Shared/" "/"))'], "namespace")
check(m.unselect()[0], "OK", "unselect")
check(m.enable("CONDSTORE")[0], "OK", "enable")
check(m.delete("Projekte/&ZeVnLIqe-")[0], "OK", "delete")
check(m.logout()[0], "BYE", "logout")
print("all well")
