//go:build acceptance

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// marionette is Mozilla's protocol for driving its programs from outside: a length, a
// colon and a message in JSON, over TCP. It finds what is on the screen, and types and
// clicks there as a person does.
type marionette struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	id   int
}

// webElement is something on the screen.
type webElement map[string]string

// newMarionette connects to a program that listens on a port as soon as it has
// started, and looks at its windows, not at pages in them.
func newMarionette(t *testing.T, port string) *marionette {
	t.Helper()
	m := &marionette{t: t}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var err error
		if m.conn, err = net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not listen to be driven: %v", err)
		}
	}
	t.Cleanup(func() { _ = m.conn.Close() })
	m.r = bufio.NewReader(m.conn)
	if _, err := m.read(); err != nil { // its greeting
		t.Fatal(err)
	}
	m.must("WebDriver:NewSession", map[string]any{"strictFileInteractability": true})
	m.must("Marionette:SetContext", map[string]any{"value": "chrome"})
	m.must("WebDriver:SetTimeouts", map[string]any{"script": 60_000})
	return m
}

// read returns the next message.
func (m *marionette) read() ([]byte, error) {
	length, err := m.r.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(m.r, b)
	return b, err
}

// command sends a command and returns its result.
func (m *marionette) command(name string, params any) (json.RawMessage, error) {
	m.id++
	b, err := json.Marshal([]any{0, m.id, name, params})
	if err != nil {
		return nil, err
	}
	if err := m.conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(b), b); err != nil {
		return nil, err
	}
	if b, err = m.read(); err != nil {
		return nil, err
	}
	var answer []json.RawMessage
	if err := json.Unmarshal(b, &answer); err != nil || len(answer) != 4 {
		return nil, fmt.Errorf("%s is answered with %.200q: %v", name, b, err)
	}
	var failed *struct{ Error, Message string }
	if err := json.Unmarshal(answer[2], &failed); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("%s: %s: %s", name, failed.Error, failed.Message)
	}
	return answer[3], nil
}

// must is command for what cannot go wrong.
func (m *marionette) must(name string, params any) json.RawMessage {
	m.t.Helper()
	result, err := m.command(name, params)
	if err != nil {
		m.t.Fatal(err)
	}
	return result
}

// script runs a function's body inside the program, with its powers, into what it
// returns.
func (m *marionette) script(into any, body string, args ...any) error {
	if args == nil {
		args = []any{}
	}
	result, err := m.command("WebDriver:ExecuteScript", map[string]any{"script": body, "args": args, "newSandbox": true, "sandbox": "system"})
	if err != nil {
		return err
	}
	var value struct{ Value json.RawMessage }
	if err := json.Unmarshal(result, &value); err != nil {
		return err
	}
	return json.Unmarshal(value.Value, into)
}

// onScreen finds an element that can be seen, also within parts of a window that keep
// their insides to themselves, and where its middle is in the window.
const onScreen = `
const find = (root, x, y) => {
  for (const e of root.querySelectorAll(arguments[0]))
    if (e.checkVisibility() && !e.disabled) {
      const r = e.getBoundingClientRect();
      return {e, x: Math.round(x + r.x + r.width / 2), y: Math.round(y + r.y + r.height / 2)};
    }
  for (const e of root.querySelectorAll("*")) {
    const inside = e.shadowRoot || (e.checkVisibility() && e.contentDocument);
    if (!inside) continue;
    const r = e.shadowRoot ? {x: 0, y: 0} : e.getBoundingClientRect();
    const found = find(inside, x + r.x, y + r.y);
    if (found) return found;
  }
  return null;
};
const found = find(document, 0, 0);
`

// wait waits until an element can be seen and used.
func (m *marionette) wait(selector string) webElement {
	m.t.Helper()
	var e webElement
	m.until(selector+" is on the screen", func() error {
		if err := m.script(&e, onScreen+"return found && found.e;", selector); err != nil {
			return err
		}
		if e == nil {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	return e
}

// until waits until something succeeds.
func (m *marionette) until(what string, done func() error) {
	m.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.shotAll("failed")
			m.t.Fatalf("it never comes to that: %s: %v", what, err)
		}
	}
}

// id is its reference in commands.
func (e webElement) id() string {
	for _, id := range e {
		return id
	}
	return ""
}

// press moves the pointer onto an element as soon as it can be seen and used, and
// clicks.
func (m *marionette) press(selector string) {
	m.t.Helper()
	var at *struct{ X, Y int }
	m.until(selector+" is on the screen", func() error {
		if err := m.script(&at, onScreen+"return found && {X: found.x, Y: found.y};", selector); err != nil {
			return err
		}
		if at == nil {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	m.act("pointer", map[string]any{"type": "pointerMove", "x": at.X, "y": at.Y}, map[string]any{"type": "pointerDown", "button": 0}, map[string]any{"type": "pointerUp", "button": 0})
}

// act does with the mouse or the keyboard what it says.
func (m *marionette) act(device string, actions ...map[string]any) {
	m.t.Helper()
	m.must("WebDriver:PerformActions", map[string]any{"actions": []any{map[string]any{"type": device, "id": device, "actions": actions}}})
}

// keys types text where the cursor is.
func (m *marionette) keys(text string) {
	m.t.Helper()
	var actions []map[string]any
	for _, r := range text {
		actions = append(actions, map[string]any{"type": "keyDown", "value": string(r)}, map[string]any{"type": "keyUp", "value": string(r)})
	}
	m.act("key", actions...)
}

// text is what an element says that is on the screen.
func (m *marionette) text(selector string) (text string) {
	m.t.Helper()
	m.until(selector+" is on the screen", func() error {
		var said *string
		if err := m.script(&said, onScreen+`return found && found.e.innerText.replace(/\s+/g, " ");`, selector); err != nil {
			return err
		}
		if said == nil {
			return fmt.Errorf("there is none")
		}
		text = *said
		return nil
	})
	return text
}

// write types text into an element, letter by letter.
func (m *marionette) write(selector, text string) {
	m.t.Helper()
	m.must("WebDriver:ElementSendKeys", map[string]any{"id": m.wait(selector).id(), "text": text})
}

// window waits for a window of a kind ("mail:3pane", "msgcompose") and turns to it.
func (m *marionette) window(kind string) {
	m.t.Helper()
	m.until("there is a window "+kind, func() error {
		var handles []string
		if err := json.Unmarshal(m.must("WebDriver:GetWindowHandles", map[string]any{}), &handles); err != nil {
			return err
		}
		for _, h := range handles {
			if _, err := m.command("WebDriver:SwitchToWindow", map[string]any{"handle": h}); err != nil {
				continue
			}
			var got string
			if err := m.script(&got, `return document.documentElement.getAttribute("windowtype") || ""`); err == nil && got == kind {
				return nil
			}
		}
		return fmt.Errorf("among %d there is none", len(handles))
	})
}

// shot writes what the window shows into a file of the folder of pictures, if one is
// named.
func (m *marionette) shot(name string) {
	m.t.Helper()
	dir := os.Getenv("DIRPOST_PICTURES")
	if dir == "" {
		return
	}
	result, err := m.command("WebDriver:TakeScreenshot", map[string]any{"full": false, "hash": false})
	if err != nil {
		m.t.Logf("picture %s: %v", name, err)
		return
	}
	var value struct{ Value string }
	if err := json.Unmarshal(result, &value); err != nil {
		m.t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(value.Value)
	if err != nil {
		m.t.Fatal(err)
	}
	file := dir + "/" + name + ".png"
	if err := os.WriteFile(file, b, 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.t.Logf("picture: %s", file)
}

// shotAll is shot for all windows.
func (m *marionette) shotAll(name string) {
	m.t.Helper()
	var handles []string
	if err := json.Unmarshal(m.must("WebDriver:GetWindowHandles", map[string]any{}), &handles); err != nil {
		m.t.Fatal(err)
	}
	for i, h := range handles {
		if _, err := m.command("WebDriver:SwitchToWindow", map[string]any{"handle": h}); err == nil {
			m.shot(fmt.Sprintf("%s-%d", name, i))
		}
	}
}
