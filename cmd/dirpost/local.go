package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"dirpost/auth"
	"dirpost/internal/envelope"
	"dirpost/internal/event"
	"dirpost/mta/intake"
	"dirpost/mta/smtpd"
)

// localServer takes mail from the users of this machine: SMTP on a Unix socket,
// where the kernel says who the client is (SO_PEERCRED, unix(7)). `dirpost
// sendmail` is its client.
type localServer struct {
	path   string
	domain string // of the users' addresses
	config smtpd.Config
	door   *intake.Door
	events event.Sink
	log    *slog.Logger
}

// listen opens the socket in place of one that a dead process has left. Anybody
// on this machine may connect.
func (s *localServer) listen() (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return nil, fmt.Errorf("socket for local mail: %w", err)
	}
	l, err := listenUnix(s.path, socketAccess{mode: 0o666, uid: -1, gid: -1})
	if err != nil {
		return nil, fmt.Errorf("socket for local mail (server.socket): %w", err)
	}
	return l, nil
}

// serve accepts clients until ctx ends, and waits for those it has.
func (s *localServer) serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", s.path, err)
		}
		clients.Go(func() { s.serveConn(ctx, conn) })
	}
}

// serveConn serves one client as the user that it is. The server is made for
// the connection, since the user is what its door depends on.
func (s *localServer) serveConn(ctx context.Context, conn *net.UnixConn) {
	u, err := s.peer(conn)
	if err == nil {
		var srv *smtpd.Server
		if srv, err = smtpd.New(s.config, smtpd.Deps{Door: localDoor{s.door, u}, Events: s.events, Log: s.log}); err == nil {
			srv.ServeConn(ctx, conn)
			return
		}
	}
	s.log.ErrorContext(ctx, "local client refused", "err", err)
	_ = conn.Close()
}

// peer returns the user at the other end.
func (s *localServer) peer(conn *net.UnixConn) (intake.LocalUser, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return intake.LocalUser{}, err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return intake.LocalUser{}, err
	}
	if credErr != nil {
		return intake.LocalUser{}, fmt.Errorf("credentials of a local client: %w", credErr)
	}
	u, err := user.LookupId(strconv.Itoa(int(cred.Uid)))
	if err != nil {
		return intake.LocalUser{}, fmt.Errorf("user of a local client: %w", err)
	}
	name, _, _ := strings.Cut(u.Name, ",") // the GECOS field has more behind commas
	return intake.LocalUser{
		Login: u.Username, Name: name, Trusted: cred.Uid == 0 || int(cred.Uid) == os.Geteuid(),
		Address: envelope.Address{Local: u.Username, Domain: s.domain},
	}, nil
}

// localDoor is the way in for one user of this machine.
type localDoor struct {
	door *intake.Door
	user intake.LocalUser
}

func (d localDoor) Start(c *envelope.Client, _ *auth.Identity, env envelope.Envelope) (smtpd.Transaction, error) {
	c.Protocol, c.Helo, c.Login = "local", "localhost", d.user.Login
	t, err := d.door.StartLocal(c, d.user, env)
	if err != nil {
		return nil, err
	}
	return localTransaction{t}, nil
}

// localTransaction drops what Commit tells besides the acceptance.
type localTransaction struct{ *intake.Transaction }

func (t localTransaction) Commit(ctx context.Context) error {
	_, err := t.Transaction.Commit(ctx)
	return err
}
