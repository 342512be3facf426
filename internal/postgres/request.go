package postgres

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// request is what asks for a prepared statement: Bind, Execute and Sync (PostgreSQL
// documentation, "Message Formats"), made in one buffer that the next one uses again.
// The driver makes each argument in a buffer that grows, copies all of them into
// another one that grows, and drops both.
type request struct {
	buf     []byte
	formats []int16 // of the columns of the answer
}

var requests = sync.Pool{New: func() any { return new(request) }}

// maxKept is the largest buffer that is kept for another request, in octets: a
// message with a small body, with room to spare.
const maxKept = 64 << 10

// release gives q back.
func (q *request) release() {
	if cap(q.buf) <= maxKept {
		requests.Put(q)
	}
}

// build makes the request for sd with args. A string goes as text, whatever the type
// of the parameter, all else as the type map of the driver says.
func (q *request) build(types *pgtype.Map, sd *pgconn.StatementDescription, args []any) error {
	if len(args) != len(sd.ParamOIDs) {
		return fmt.Errorf("%d arguments for %d parameters", len(args), len(sd.ParamOIDs))
	}
	b := append(q.buf[:0], 'B', 0, 0, 0, 0, 0) // length to come; the portal has no name
	b = append(append(b, sd.Name...), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(args)))
	for i, arg := range args {
		b = binary.BigEndian.AppendUint16(b, uint16(formatOf(types, sd.ParamOIDs[i], arg)))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(args)))
	for i, arg := range args {
		var err error
		if b, err = appendArgument(b, types, sd.ParamOIDs[i], arg); err != nil {
			q.buf = b[:0]
			return fmt.Errorf("parameter %d: %w", i+1, err)
		}
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(sd.Fields)))
	q.formats = q.formats[:0]
	for i := range sd.Fields {
		f := types.FormatCodeForOID(sd.Fields[i].DataTypeOID)
		q.formats = append(q.formats, f)
		b = binary.BigEndian.AppendUint16(b, uint16(f))
	}
	q.buf = b
	if len(b) > math.MaxInt32 {
		return fmt.Errorf("request of %d octets: a message to the database has 2 GiB at most", len(b))
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	q.buf = append(b, "E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"...) // all rows of the portal without a name
	return nil
}

// formatOf returns the format in which arg goes.
func formatOf(types *pgtype.Map, oid uint32, arg any) int16 {
	if _, ok := arg.(string); ok {
		return pgx.TextFormatCode
	}
	return types.FormatCodeForOID(oid)
}

// appendArgument appends arg with its length, which is -1 for null.
func appendArgument(b []byte, types *pgtype.Map, oid uint32, arg any) ([]byte, error) {
	at := len(b)
	b = append(b, 0xff, 0xff, 0xff, 0xff)
	full, err := appendValue(b, types, oid, arg)
	switch {
	case err != nil:
		return b, err
	case full == nil:
		return b, nil
	}
	binary.BigEndian.PutUint32(full[at:], uint32(len(full)-at-4))
	return full, nil
}

// appendValue appends arg; nil is null. The types that most arguments have go without
// the look-ups of the type map.
func appendValue(b []byte, types *pgtype.Map, oid uint32, arg any) ([]byte, error) {
	switch v := arg.(type) {
	case nil:
		return nil, nil
	case []byte:
		if v != nil && oid == pgtype.ByteaOID {
			return append(b, v...), nil
		}
	case int64:
		if oid == pgtype.Int8OID {
			return binary.BigEndian.AppendUint64(b, uint64(v)), nil
		}
	case string:
		if oid == pgtype.TextOID {
			return append(b, v...), nil
		}
	}
	return types.Encode(oid, formatOf(types, oid, arg), arg, b)
}
