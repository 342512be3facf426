package dkim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"dirpost/internal/message"
)

// maxResigned is how many signatures of a message are looked at.
const maxResigned = 10

// Resign renews the signatures of ours on a message that had to be changed for a
// next hop. before and body are the message as it is in the queue, after and
// converted what is sent; both functions write the octets after the empty line,
// the same each time.
//
// Whether a signature is ours is not believed but looked at: the key that it
// names must make exactly this signature of the message as it was. (Both
// algorithms give the same signature each time: RFC 8017 §8.2, RFC 8032 §5.1.6.)
// Signatures of others, and of keys that sign no more, stay as they are.
//
// Errors are temporary, and those of body and converted.
func (k *Keys) Resign(ctx context.Context, before message.Header, body func(io.Writer) error, after message.Header, converted func(io.Writer) error) (message.Header, error) {
	fresh := make(map[string][]byte) // by the signature before
	var was, is [32]byte
	read := false
	for _, old := range signaturesOf(before) {
		key, names, at, err := k.named(ctx, old)
		if err != nil {
			return after, err
		}
		if key == nil {
			continue
		}
		if !read {
			if was, err = hashed(body); err != nil {
				return after, err
			}
			if is, err = hashed(converted); err != nil {
				return after, err
			}
			read = true
		}
		same, err := signFields(key, before, names, was, at)
		if err != nil {
			return after, err
		}
		if !bytes.Equal(same, old.Raw) {
			continue
		}
		if fresh[string(old.Raw)], err = sign(key, after, is, k.now()); err != nil {
			return after, err
		}
	}
	if len(fresh) == 0 {
		return after, nil
	}
	raw := make([]byte, 0, len(after.Bytes())+256)
	for f := range after.Fields() {
		if renewed, ok := fresh[string(f.Raw)]; ok {
			raw = append(raw, renewed...)
		} else {
			raw = append(raw, f.Raw...)
		}
	}
	return message.ParseHeader(append(raw, '\r', '\n')), nil
}

func hashed(body func(io.Writer) error) ([32]byte, error) {
	h := NewBodyHash()
	if err := body(h); err != nil {
		return [32]byte{}, err
	}
	return h.Sum(), nil
}

// signaturesOf returns the first signatures of a header.
func signaturesOf(h message.Header) (all []message.Field) {
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, "DKIM-Signature") && len(all) < maxResigned {
			all = append(all, f)
		}
	}
	return all
}

// named returns the key that a signature names, nil if it is none of our active
// ones, the fields that it is over, and its time. A list has put fields of its own
// on top since then.
func (k *Keys) named(ctx context.Context, f message.Field) (_ *signingKey, names []string, at time.Time, err error) {
	tags := make(map[string]string)
	for tag := range strings.SplitSeq(f.Value(), ";") {
		if name, value, ok := strings.Cut(tag, "="); ok {
			tags[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
		}
	}
	seconds, err := strconv.ParseInt(tags["t"], 10, 64)
	if err != nil || tags["d"] == "" {
		return nil, nil, at, nil
	}
	keys, err := k.active(ctx, tags["d"])
	if err != nil {
		return nil, nil, at, fmt.Errorf("renew signature: %w", err)
	}
	for _, key := range keys {
		if key.selector == tags["s"] && string(key.algorithm) == tags["a"] {
			return key, strings.Split(tags["h"], ":"), time.Unix(seconds, 0), nil
		}
	}
	return nil, nil, at, nil
}
