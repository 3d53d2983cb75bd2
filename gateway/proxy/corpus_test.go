package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/h1/corpus"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// soon is how long a test waits for what should come at once.
const soon = 10 * time.Second

// noContent is an answer that ends in the same place whatever was asked.
const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

func withStd() bool { return os.Getenv(codec) == "std" }

// instanceOf runs an instance of web whose connections are talk's until it returns.
func instanceOf(world *meshtest.World, node string, talk func(net.Conn), tags ...string) {
	listener := world.Listen("web", world.Policy)
	attend(world, "instance "+node, listener, talk)
	world.Catalog.Add(world.Instance("web", node, listener.Addr().String(), tags...))
}

// attend has talk speak on each connection of a listener, until the world ends.
func attend(world *meshtest.World, name string, listener net.Listener, talk func(net.Conn)) {
	world.Run(name, func(ctx context.Context) error {
		var talking sync.WaitGroup
		defer talking.Wait()
		stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
		defer stop()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return nil
			}
			talking.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer stop()
				talk(conn)
			})
		}
	})
}

// rawLab is a gateway whose one route leads to one instance, which is talk.
func rawLab(t *testing.T, talk func(net.Conn), cfg proxy.Config) *lab {
	t.Helper()
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instanceOf(world, "raw", talk, "urlprefix-/")
	cfg.Dialer, cfg.Policy = world.Dialer("gateway", nil), world.Policy
	return with(t, world, cfg)
}

// dial connects to the gateway.
func (l *lab) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(soon))
	return conn.(*net.TCPConn)
}

// raw sends bytes to the gateway and returns all that comes until it ends.
func (l *lab) raw(t *testing.T, input string) string {
	t.Helper()
	conn := l.dial(t)
	defer conn.Close()
	_, _ = io.WriteString(conn, input)
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("after %q: %v", all, err)
	}
	return string(all)
}

// tape is an instance that writes down each byte it gets, and answers each request
// with 204. Where requests end it learns from net/http.
type tape struct {
	mu    sync.Mutex
	heard []*bytes.Buffer // by connection
	live  atomic.Int64
	// early answers before the body was read.
	early bool
}

func (r *tape) talk(conn net.Conn) {
	r.live.Add(1)
	defer r.live.Add(-1)
	heard := &bytes.Buffer{}
	r.mu.Lock()
	r.heard = append(r.heard, heard)
	r.mu.Unlock()
	in := bufio.NewReaderSize(io.TeeReader(conn, writer(func(p []byte) (int, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return heard.Write(p)
	})), 64<<10) // as long as a trailer section may be
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			break
		}
		if request.Header.Get("Expect") != "" && !r.early {
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if r.early {
			_, _ = io.WriteString(conn, noContent)
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			break
		}
		if !r.early {
			_, _ = io.WriteString(conn, noContent)
		}
	}
	_, _ = io.Copy(io.Discard, in)
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// take returns what came on each connection since it was called last.
func (r *tape) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, heard := range r.heard {
		if heard.Len() > 0 {
			all = append(all, heard.String())
			heard.Reset()
		}
	}
	return all
}

// message is a request, byte by byte.
type message struct {
	line    string
	fields  []string
	framing string
	body    string
	trailer []string
}

// split cuts a connection into messages. It takes framing fields only in the form in
// which the gateway writes them. rest is what is no whole message.
func split(wire string) (list []message, rest string) {
	for wire != "" {
		head, after, ok := strings.Cut(wire, "\r\n\r\n")
		if !ok {
			return list, wire
		}
		lines := strings.Split(head, "\r\n")
		m := message{line: lines[0]}
		for _, line := range lines[1:] {
			if strings.HasPrefix(line, "Content-Length: ") || line == "Transfer-Encoding: chunked" {
				m.framing += line
				continue
			}
			m.fields = append(m.fields, line)
		}
		if after, ok = m.takeBody(after); !ok {
			return list, wire
		}
		list, wire = append(list, m), after
	}
	return list, ""
}

func (m *message) takeBody(wire string) (rest string, whole bool) {
	if text, sized := strings.CutPrefix(m.framing, "Content-Length: "); sized {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n > uint64(len(wire)) {
			return "", false
		}
		m.body = wire[:n]
		return wire[n:], true
	}
	for m.framing != "" {
		line, after, ok := strings.Cut(wire, "\r\n")
		n, err := strconv.ParseUint(line, 16, 32)
		if !ok || err != nil {
			return "", false
		}
		if n == 0 {
			section, after, ok := strings.Cut("\r\n"+after, "\r\n\r\n")
			m.trailer = strings.Split(section, "\r\n")
			return after, ok
		}
		if int(n)+2 > len(after) || after[n:n+2] != "\r\n" {
			return "", false
		}
		m.body += after[:n]
		wire = after[n+2:]
	}
	return wire, true
}

// asSent is a message of the corpus as the gateway sends it on: Host comes first, and
// may be empty where there was none; an expectation goes along with a body alone.
func (m message) asSent() string {
	host, expect := "", ""
	m.fields = slices.DeleteFunc(slices.Clone(m.fields), func(line string) bool {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "host":
			host = strings.TrimSpace(value)
			return true
		case "expect":
			expect = "Expect: 100-continue"
			return true
		}
		return false
	})
	if host == corpus.NoHost {
		host = ""
	}
	m.fields = slices.Insert(m.fields, 0, "Host: "+host)
	if expect != "" && m.body != "" {
		m.fields = append(m.fields, expect)
	}
	return m.String()
}

// without takes away what the gateway adds, which must be there once each.
func (m message) without(t *testing.T) string {
	added := map[string]int{}
	m.fields = slices.DeleteFunc(slices.Clone(m.fields), func(line string) bool {
		name, _, _ := strings.Cut(line, ": ")
		if strings.HasPrefix(name, "X-Forwarded-") || name == "X-Request-Id" {
			added[name]++
			return true
		}
		return line == "Connection: TE" || line == "TE: trailers"
	})
	if want := map[string]int{"X-Forwarded-For": 1, "X-Forwarded-Host": 1, "X-Forwarded-Port": 1, "X-Forwarded-Proto": 1, "X-Request-Id": 1}; !maps.Equal(added, want) {
		t.Errorf("the gateway has added %v", added)
	}
	return m.String()
}

func (m message) String() string {
	return fmt.Sprintf("%s\n%s\n%s\n%q\n%q", m.line, strings.Join(m.fields, "\n"), m.framing, m.body, m.trailer)
}

// played is what became of a case.
type played struct {
	// answers are the statuses that the client got.
	answers []int
	// ended says how the connection ended; io.EOF is well.
	ended error
	// got is what the instance got, and broken what was no whole request.
	got    []message
	broken []string
}

// play sends a case to the gateway. The client ends its side where the case does, but
// not before the answers are there; and after a refusal the gateway has to end.
func (l *lab) play(t *testing.T, r *tape, c corpus.Case) (p played) {
	conn := l.dial(t)
	_, _ = io.WriteString(conn, c.Input) // it may be refused before it is whole
	reader := bufio.NewReader(conn)
	method, _, _ := strings.Cut(c.Input, " ") // only that of a HEAD matters
	want := c.Messages
	if c.Status != 0 {
		want++
	}
	if differencesOfStd()[c.File+"/"+c.Name] == waits {
		_ = conn.CloseWrite()
	}
	for p.ended == nil {
		if n := len(p.answers); n >= want && (c.Status == 0 || withStd()) {
			_ = conn.CloseWrite()
		}
		if _, p.ended = reader.Peek(1); p.ended != nil {
			break
		}
		var response *http.Response
		if response, p.ended = http.ReadResponse(reader, &http.Request{Method: method}); p.ended == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			if response.StatusCode >= 200 {
				p.answers = append(p.answers, response.StatusCode)
			}
		}
	}
	_ = conn.Close()
	// The end of a connection comes when that to the instance can be used again.
	if got := l.raw(t, "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 204 ") {
		t.Fatalf("the next request is answered with %.200q", got)
	}
	meshtest.Wait(t, "the instance has read all there is", func() bool { return r.live.Load() == 1 })
	last := 0
	for _, wire := range r.take() {
		list, rest := split(wire)
		if n := len(list); n > 0 && strings.HasPrefix(list[n-1].line, "GET /last ") {
			list, last = list[:n-1], last+1
		}
		p.got = append(p.got, list...)
		if rest != "" {
			p.broken = append(p.broken, rest)
		}
	}
	if last != 1 {
		t.Fatalf("the next request came %d times", last)
	}
	return p
}

// refusedByTheGateway are cases that the codec takes and the gateway answers itself.
func refusedByTheGateway() map[string]int {
	return map[string]int{
		"request-target/OPTIONS *": 400, // no route takes it
		// What these name is not what they say.
		"request-target/target /../a": 400, "request-target/target /a/./b": 400, "request-target/target /%2e%2e/a": 400,
	}
}

// expect is what should become of a case.
func expect(c corpus.Case) (answers []int, got []string) {
	source := c.Input
	if c.HasOutput {
		source = c.Output
	}
	list, _ := split(source)
	for _, m := range list[:c.Messages] {
		got = append(got, m.asSent())
	}
	answers = slices.Repeat([]int{http.StatusNoContent}, c.Messages)
	if status := refusedByTheGateway()[c.File+"/"+c.Name]; status != 0 {
		answers, got = []int{status}, nil
	}
	if c.Status != 0 {
		answers = append(answers, c.Status)
	}
	return answers, got
}

func TestTheCorpusReachesAnInstanceAsItShould(t *testing.T) {
	r := &tape{}
	l := rawLab(t, r.talk, proxy.Config{})
	differ := differencesOfStd()
	for _, c := range corpus.Load(t) {
		if c.Response || isUpgrade(c) {
			continue
		}
		name := c.File + "/" + c.Name
		t.Run(name, func(t *testing.T) {
			p := l.play(t, r, c)
			if !withStd() {
				p.compare(t, c)
				return
			}
			p.agree(t)
			answers, _ := expect(c)
			reason, known := differ[name]
			if same := slices.Equal(answers, p.answers); same == known && reason != waits {
				t.Errorf("%q answered with %v, want %v; the reason that is known: %q", name, p.answers, answers, reason)
			}
		})
		delete(differ, name)
	}
	for name := range differ {
		t.Errorf("no case has the name %s", name)
	}
}

// isUpgrade reports whether a case is for net/http in both codecs.
func isUpgrade(c corpus.Case) bool {
	return !c.Response && c.Want["upgrade"] != "" && c.Want["upgrade"] != "-"
}

// TestAnUpgradeReachesAnInstanceUnlessItIsToHTTP2 would fail if a client could have a
// tunnel in which it speaks HTTP/2 to an instance, past all routes and checks.
func TestAnUpgradeReachesAnInstanceUnlessItIsToHTTP2(t *testing.T) {
	for _, c := range corpus.Load(t) {
		if !isUpgrade(c) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			r := &tape{}
			l := rawLab(t, r.talk, proxy.Config{})
			conn := l.dial(t)
			_, _ = io.WriteString(conn, c.Input)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode != http.StatusNoContent {
				t.Fatalf("answered with %v, %v", response, err)
			}
			wire := strings.Join(r.take(), "")
			want := !strings.Contains(c.Input, "h2c")
			for _, text := range []string{"Connection: Upgrade\r\n", "Upgrade: websocket\r\n"} {
				if strings.Contains(wire, text) != want {
					t.Errorf("the instance got %q", wire)
				}
			}
			for _, text := range []string{"h2c", "Http2-Settings", "HTTP2-Settings"} {
				if strings.Contains(wire, text) {
					t.Errorf("the instance got %q", wire)
				}
			}
		})
	}
}

// compare holds what became of a case against the corpus.
func (p played) compare(t *testing.T, c corpus.Case) {
	answers, want := expect(c)
	if !slices.Equal(p.answers, answers) || p.ended != io.EOF {
		t.Errorf("answered with %v, then %v; want %v and the end", p.answers, p.ended, answers)
	}
	if len(p.got) != len(want) {
		t.Fatalf("the instance got %d requests, want %d", len(p.got), len(want))
	}
	for i, m := range p.got {
		if got := m.without(t); got != want[i] {
			t.Errorf("the instance got\n%.2000s\nwant\n%.2000s", got, want[i])
		}
	}
	// A head that is refused never leaves. A body may be broken behind a good head:
	// the instance sees that it is.
	if begun := c.Cut && strings.Contains(c.Input, "\r\n\r\n") || c.Body && c.Status != 0; len(p.broken) > 0 && !begun || len(p.broken) > 1 {
		t.Errorf("the instance got %.2000q, which is no request", p.broken)
	}
}

// agree demands that the gateway and the instance saw the same requests.
func (p played) agree(t *testing.T) {
	taken := 0
	for _, status := range p.answers {
		if status == http.StatusNoContent {
			taken++
		}
	}
	if len(p.got) != taken || len(p.broken) > 1 {
		t.Errorf("the instance saw %d requests and %q, the gateway %d", len(p.got), p.broken, taken)
	}
}
