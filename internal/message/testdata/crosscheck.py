# Prints what Python's email package makes of each message: one JSON object a
# line, with the content type and the decoded content of every part in order,
# the addresses, the subject and the date.
import email
import email.header
import email.utils
import json
import sys


def addresses(values):
    # Python since its security update answers nothing at all for a list that it
    # finds suspicious, unless it is told not to; before it there was no choice.
    try:
        return email.utils.getaddresses(values, strict=False)
    except TypeError:
        return email.utils.getaddresses(values)


def walk(part):
    yield part
    # The blocks of a delivery status are no parts to anybody else.
    if part.is_multipart() and part.get_content_type() != "message/delivery-status":
        for p in part.get_payload():
            yield from walk(p)


for name in sys.argv[1:]:
    with open(name, "rb") as f:
        msg = email.message_from_bytes(f.read())
    parts = []
    for p in walk(msg):
        content = None
        if not p.is_multipart():
            content = (p.get_payload(decode=True) or b"").decode("latin-1")
        parts.append({"type": p.get_content_type(), "content": content})
    fields = {}
    for field in ("from", "to", "cc"):
        fields[field] = [list(a) for a in addresses([str(v) for v in msg.get_all(field, [])]) if a[1]]
    subject = str(email.header.make_header(email.header.decode_header(msg.get("subject", ""))))
    date = email.utils.parsedate_to_datetime(msg["date"]).isoformat() if msg["date"] else ""
    print(json.dumps({"parts": parts, "fields": fields, "subject": subject, "date": date}))
