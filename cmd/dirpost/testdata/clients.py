# The mail clients of Python's standard library against a running server: a
# message is submitted, and read over IMAP and POP3, octet for octet.
import email.message, email.policy, imaplib, poplib, smtplib, ssl, sys

host, submission, imaps, pop3, ca, user, password = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)

message = email.message.EmailMessage(policy=email.policy.SMTP)
message["From"] = "Alice <alice@corp.example>"
message["To"] = "bob@corp.example"
message["Subject"] = "Grüße aus Python, 你好"
message["Message-ID"] = "<python@corp.example>"
message["Date"] = "Sat, 21 Nov 2026 10:00:00 +0000"
message.set_content("Hello.\n.\n..\nمرحبا\n")
message.add_attachment(bytes(range(256)) * 8, maintype="application", subtype="octet-stream", filename="all.bin")
octets = message.as_bytes()

with smtplib.SMTP(host, int(submission), timeout=20) as smtp:
    smtp.starttls(context=tls)
    smtp.login("alice", password)
    assert smtp.sendmail("alice@corp.example", ["bob@corp.example"], octets) == {}

imap = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=tls, timeout=20)
imap.login(user, password)
status, (count,) = imap.select("INBOX")
assert status == "OK" and count == b"1", (status, count)
status, (found,) = imap.uid("SEARCH", "CHARSET", "UTF-8", "HEADER", "Message-ID", "<python@corp.example>")
assert status == "OK" and len(found.split()) == 1, found
uid = found.split()[0].decode()
status, data = imap.uid("FETCH", uid, "(BODY.PEEK[] FLAGS)")
assert status == "OK" and data[0][1].endswith(octets), data
imap.literal = "你好".encode()
status, (found,) = imap.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT")
assert status == "OK" and found == uid.encode(), found
assert imap.uid("STORE", uid, "+FLAGS", r"(\Flagged)")[0] == "OK"
assert imap.create("Archive/2026")[0] == "OK"
assert imap.uid("COPY", uid, "Archive/2026")[0] == "OK"
status, boxes = imap.list()
assert status == "OK" and any(b"Archive/2026" in b for b in boxes), boxes
status, (answer,) = imap.append("Drafts", r"(\Draft)", imaplib.Time2Internaldate(1_700_000_000), octets)
assert status == "OK" and b"APPENDUID" in answer, answer
imap.logout()

pop = poplib.POP3(host, int(pop3), timeout=20)
pop.stls(tls)
pop.user(user)
pop.pass_(password)
assert pop.stat()[0] == 1
_, lines, _ = pop.retr(1)
assert (b"\r\n".join(lines) + b"\r\n").endswith(octets)
pop.dele(1)
pop.quit()

imap = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=tls, timeout=20)
imap.login(user, password)
assert imap.select("INBOX")[1] == [b"0"]
assert imap.select("Archive/2026")[1] == [b"1"]
imap.logout()
print("python: ok")
