package dsn

import (
	"fmt"
	"strings"
	"time"

	"dirpost/internal/message"
)

// text is the first part, the one for people: what happened to which message,
// why, and what the sender can do.
func (r *Report) text() string {
	var b strings.Builder
	b.WriteString("This is an automatic message from the mail system at " + r.ReportingMTA + ".\n\nYour message\n\n")
	r.writeMessage(&b)
	first := true
	for _, section := range sections {
		var list []Recipient
		for _, rcpt := range r.Recipients {
			if rcpt.Action == section.action {
				list = append(list, rcpt)
			}
		}
		if len(list) == 0 {
			continue
		}
		if !first {
			b.WriteString("It ")
		}
		first = false
		b.WriteString(section.before + "\n\n")
		for _, rcpt := range list {
			writeRecipient(&b, rcpt)
		}
		if section.after != "" {
			b.WriteString(section.after + "\n\n")
		}
	}
	writeWrapped(&b, "", fmt.Sprintf("If you need help, answer this message, or write to %s and name %s.", r.From.Unicode(), r.QueueID))
	return b.String()
}

// sections are in the order of what matters to the sender.
var sections = [...]struct {
	action        Action
	before, after string
}{
	{Failed, "was NOT delivered to:",
		"We have given up and will not try these recipients again. When the cause is\nremoved, please send your message once more."},
	{Delayed, "could not be delivered yet to:",
		"You need not do anything now: we go on trying, and tell you if we give up.\nPlease do not send your message again."},
	{Delivered, "was delivered to:", ""},
	{Relayed, "was passed on to the mail system of these recipients, which does not\nconfirm deliveries:", ""},
	{Expanded, "was delivered to these lists and passed on to their members:", ""},
}

func (r *Report) writeMessage(b *strings.Builder) {
	line := func(name, value string) {
		if value = cut(clean(value, true), 200); value != "" {
			fmt.Fprintf(b, "    %-9s%s\n", name+":", value)
		}
	}
	line("Subject", message.DecodeHeader(r.Header.Get("Subject")))
	if d, err := r.Header.Date(); err == nil {
		line("Date", d.Format(time.RFC1123Z))
	} else if !r.Arrival.IsZero() {
		line("Date", r.Arrival.Format(time.RFC1123Z))
	}
	line("Id", r.QueueID.String())
	b.WriteString("\n")
}

func writeRecipient(b *strings.Builder, rcpt Recipient) {
	fmt.Fprintf(b, "  * %s\n", rcpt.Address.Unicode())
	if o := clean(rcpt.Original, true); o != "" && !strings.EqualFold(o, rcpt.Address.String()) && o != rcpt.Address.Unicode() {
		fmt.Fprintf(b, "    (you wrote to %s)\n", cut(o, 200))
	}
	if rcpt.Action != Failed && rcpt.Action != Delayed {
		b.WriteString("\n")
		return
	}
	if rcpt.Moderated || rcpt.Returned {
		why := "Messages to this list are read by its moderators first, and yours was not passed on to the members. Why:"
		if rcpt.Returned {
			why = "An administrator of the mail system has held your message back, and returns it. Why:"
		}
		writeWrapped(b, "    ", why)
		b.WriteByte('\n')
		writeWrapped(b, "    ", cut(clean(rcpt.Diagnostic, true), maxRemoteText))
		b.WriteByte('\n')
		return
	}
	cause, remedy := advice(rcpt)
	if rcpt.Action == Failed {
		cause += " " + remedy // while we go on trying there is nothing to do
	}
	writeWrapped(b, "    ", cause)
	if d := cut(clean(rcpt.Diagnostic, true), maxRemoteText); d != "" {
		who := clean(rcpt.RemoteMTA, true)
		if who == "" {
			who = "The mail server"
		}
		writeWrapped(b, "    ", cut(who, 200)+" said: "+d)
	}
	if rcpt.Action == Delayed && !rcpt.WillRetryUntil.IsZero() {
		writeWrapped(b, "    ", "We go on trying until "+rcpt.WillRetryUntil.Format(time.RFC1123Z)+".")
	}
	b.WriteString("\n")
}

// advice says in a sentence each what is wrong and what helps, by the subject
// and detail of the status code (RFC 3463 §3).
func advice(rcpt Recipient) (cause, remedy string) {
	domain := rcpt.Address.Unicode()
	domain = domain[strings.LastIndexByte(domain, '@')+1:]
	_, code, _ := strings.Cut(rcpt.status(), ".")
	switch code {
	case "1.1", "1.6":
		return "There is no such mailbox at " + domain + ".", "Please check the spelling of the address, or ask the person in another way for the right one."
	case "1.2", "1.10":
		return "The domain " + domain + " does not exist or takes no mail.", checkDomain
	case "1.3":
		return "This is not a valid address.", "Please check its spelling."
	case "1.7", "1.8", "7.26":
		return "The other side does not accept the sender address of your message.", tellPostmaster
	case "2.1":
		return "This mailbox has been closed.", "Please ask the person in another way for a new address."
	case "2.2":
		return "The mailbox is full.", "Please try again in a few days, or tell the person in another way."
	case "2.3", "3.4":
		return "Your message is too large for the recipient.", "Please send less at a time, or put large files where the person can fetch them and send the link."
	case "2.4":
		return "This is a list, and it could not be expanded.", "Please tell its owner."
	case "4.0", "4.1", "4.2", "4.5", "4.7":
		return "The mail system of " + domain + " could not be reached, or did not answer properly. This is usually a trouble on the other side that passes.", checkDomain
	case "4.3", "4.4":
		return "The mail system responsible for " + domain + " could not be found.", checkDomain
	case "4.6":
		return "Your message went round in circles between mail systems: a forwarding is set up wrongly.", "Please tell the recipient or the recipient's postmaster in another way."
	case "5.3":
		return "Your message has more recipients than the other side takes at once.", "Please send it in smaller groups."
	case "6.7":
		return "The mail system of " + domain + " does not support addresses in other scripts.", "Please write to and from an address of Latin letters."
	case "7.0", "7.1", "7.2":
		return "The recipient, or the recipient's mail system, refuses your message by rules of its own.", "Only they can change that."
	case "7.9", "7.13", "7.20", "7.23", "7.25", "7.27":
		return "The other side does not trust where your message comes from.", tellPostmaster
	case "7.4", "7.10", "7.30":
		return "The mail system of " + domain + " does not offer the protection that your message or our rules ask for.", tellPostmaster
	case "3.0", "3.1", "3.2":
		if rcpt.RemoteMTA == "" {
			return "Our own mail system has trouble with your message.", tellPostmaster
		}
		return "The mail system of " + domain + " has trouble of its own, which usually passes.", "Please try again later."
	}
	if rcpt.Diagnostic == "" {
		return "The message was not accepted, and no reason was given.", tellPostmaster
	}
	return "The message was not accepted, for the reason below.", ""
}

const (
	tellPostmaster = "Please tell your postmaster."
	checkDomain    = "Please check the spelling of the part after the @ sign."
)

// writeWrapped writes text in lines of at most 76 characters.
func writeWrapped(b *strings.Builder, indent, text string) {
	column := 0
	for word := range strings.FieldsSeq(text) {
		n := len([]rune(word))
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+n > 76:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	if column > 0 {
		b.WriteByte('\n')
	}
}
