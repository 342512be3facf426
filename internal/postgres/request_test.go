package postgres

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// A request is to the octet what the driver makes of the same arguments.
func TestRequestIsTheDrivers(t *testing.T) {
	t.Parallel()
	types := pgtype.NewMap()
	sd := &pgconn.StatementDescription{Name: "stmtcache_1", Fields: []pgconn.FieldDescription{
		{DataTypeOID: pgtype.Int8ArrayOID}, {DataTypeOID: pgtype.TextOID}, {DataTypeOID: 99999},
	}}
	var args []any
	for _, p := range []struct {
		oid uint32
		arg any
	}{
		{pgtype.Int8OID, int64(-1)},
		{pgtype.Int8OID, int64(1 << 62)},
		{pgtype.Int4OID, int64(7)},
		{pgtype.Int2OID, int16(-2)},
		{pgtype.Int4OID, 9},
		{pgtype.BoolOID, true},
		{pgtype.ByteaOID, []byte("\x00\xff")},
		{pgtype.ByteaOID, []byte{}},
		{pgtype.ByteaOID, []byte(nil)},
		{pgtype.TextOID, []byte("octets")},
		{pgtype.TextOID, "王伟"},
		{pgtype.TextOID, ""},
		{pgtype.Int4OID, "12"},
		{pgtype.TextOID, nil},
		{pgtype.UUIDOID, UUID{Bytes: [16]byte{1, 15: 2}, Valid: true}},
		{pgtype.UUIDOID, UUID{}},
		{pgtype.Int8ArrayOID, []int64{1, 2, 3}},
		{pgtype.Int8ArrayOID, []int64{}},
		{pgtype.Int8ArrayOID, []int64(nil)},
		{pgtype.TextArrayOID, []string{"a", ""}},
		{pgtype.TimestamptzOID, time.Unix(1_700_000_000, 123_000)},
		{pgtype.InetOID, netip.MustParseAddr("2001:db8::1")},
		{pgtype.ByteaOID, bytes.Repeat([]byte("x"), 100_000)},
	} {
		sd.ParamOIDs = append(sd.ParamOIDs, p.oid)
		args = append(args, p.arg)
	}
	var theirs pgx.ExtendedQueryBuilder
	if err := theirs.Build(types, sd, args); err != nil {
		t.Fatal(err)
	}
	var want []byte
	for _, m := range []pgproto3.FrontendMessage{
		&pgproto3.Bind{PreparedStatement: sd.Name, ParameterFormatCodes: theirs.ParamFormats, Parameters: theirs.ParamValues, ResultFormatCodes: theirs.ResultFormats},
		&pgproto3.Execute{}, &pgproto3.Sync{},
	} {
		var err error
		if want, err = m.Encode(want); err != nil {
			t.Fatal(err)
		}
	}
	var q request
	for range 2 { // the second time over the first
		if err := q.build(types, sd, args); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(q.buf, want) {
			t.Errorf("got  %q\nwant %q", q.buf[:min(len(q.buf), 600)], want[:600])
		}
	}
	if len(q.formats) != 3 || q.formats[0] != pgx.BinaryFormatCode || q.formats[2] != pgx.TextFormatCode {
		t.Errorf("formats of the answer: %v", q.formats)
	}
}

// What cannot be asked for is an error before anything is sent.
func TestRequestRefused(t *testing.T) {
	t.Parallel()
	types := pgtype.NewMap()
	var q request
	for what, args := range map[string][]any{"too few": {}, "too many": {int64(1), int64(2)}, "of another type": {struct{}{}}} {
		if err := q.build(types, &pgconn.StatementDescription{ParamOIDs: []uint32{pgtype.Int8OID}}, args); err == nil {
			t.Errorf("arguments %s: no error", what)
		}
	}
}
