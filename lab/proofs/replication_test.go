package proofs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"sluice/internal/labtest"
)

// documentQuestion writes or looks for a document as the blog does.
type documentQuestion struct {
	target
	PasswordFile string `json:"password_file"`
	Text         string `json:"text"`
	Write        bool   `json:"write,omitempty"`
}

func (p *probe) document(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	q := p.Document
	password, err := os.ReadFile(q.PasswordFile)
	if err != nil {
		return err
	}
	dial, _, err := p.dialer(stream{Client: "mesh", target: q.target})
	if err != nil {
		return err
	}
	client, err := mongo.Connect(options.Client().
		SetHosts([]string{q.Address}).SetDirect(true).SetDialer(driverDialer(dial)).
		SetAuth(options.Credential{Username: "web", Password: strings.TrimSpace(string(password)), AuthSource: "blog"}).
		SetReadPreference(readpref.SecondaryPreferred()).SetWriteConcern(writeconcern.Majority()).
		SetServerSelectionTimeout(10 * time.Second))
	if err != nil {
		return err
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()
	canaries := client.Database("blog").Collection("canaries")
	if q.Write {
		if _, err := canaries.InsertOne(ctx, bson.D{{Key: "text", Value: q.Text}}); err != nil {
			return err
		}
		p.say(event{Stream: "document", Result: served})
		return nil
	}
	n, err := canaries.CountDocuments(ctx, bson.D{{Key: "text", Value: q.Text}})
	p.say(event{Stream: "document", Result: resultOf(err), Count: int(n), Detail: textOf(err)})
	return nil
}

// driverDialer lets the driver connect by the mesh, whatever host it names.
type driverDialer dialFunc

func (d driverDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) { return d(ctx) }

// replicationIsTLS captures a secondary's link while a document travels to it.
func replicationIsTLS(p *proof) {
	primary, secondaries := p.members()
	secondary := secondaries[0]
	// Random letters: no compression on the way can hide them.
	canary, control := "canary-"+rand.Text()+rand.Text(), "control-"+rand.Text()+rand.Text()
	stop := p.capture(secondary.Name)
	ask := func(q documentQuestion) event {
		p.Helper()
		q.PasswordFile, q.Text = p.secret("web.password"), canary
		events := p.ask("web-1", order{Service: "web", TokenFile: p.token("web", "web-1"), Document: &q})
		if len(events) != 1 || events[0].Result != served {
			p.Fatalf("%s: %v", q.Address, events)
		}
		return events[0]
	}
	ask(documentQuestion{target: target{primary.Address + ":27018", "mongo-primary"}, Write: true})
	labtest.Eventually(p, 20*time.Second, "the document is on "+secondary.Name, func() error {
		// Through another member's door the answer would not pass this link; it
		// comes over mTLS too.
		if ask(documentQuestion{target: target{secondary.Address + ":27019", "mongo-secondary"}}).Count != 1 {
			return errors.New("it is not")
		}
		return nil
	})
	p.ask("web-1", order{Attempts: []attempt{{
		Name: "control", Plain: true, Say: control, target: target{secondary.Address + ":27020", "mongo-repl"},
	}}})
	segments := stop(control)
	records, bytesSeen := 0, 0
	for _, s := range segments {
		bytesSeen += len(s.payload)
		if bytes.Contains(s.payload, []byte(canary)) {
			p.Errorf("the document went in the clear from %s to %s", s.from, s.to)
		}
		if s.has(27017) {
			p.Errorf("somebody speaks with mongod past the mesh: %s -> %s", s.from, s.to)
		}
		if s.has(27020) && isTLSRecord(s.payload) {
			records++
		}
	}
	p.Logf("%d segments, %d bytes on the link of %s; %d begin with a TLS record to or from a mongo-repl port", len(segments), bytesSeen, secondary.Name, records)
	if records == 0 {
		p.Error("no TLS record of replication was seen: no evidence")
	}
}

func isTLSRecord(payload []byte) bool {
	return len(payload) > 5 && payload[0] >= 20 && payload[0] <= 23 && payload[1] == 3 && payload[2] == 3
}

// capture captures on a node's link. What it returns ends it, once the capture
// holds a text that has been sent in the clear, and returns all segments.
func (p *proof) capture(node string) (stop func(control string) []segment) {
	p.Helper()
	path := filepath.Join(p.TempDir(), node+".pcap")
	file, err := os.Create(path)
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.bounded(2 * time.Minute))
	done := make(chan error, 1)
	go func() { done <- p.client.Capture(ctx, node, file) }()
	p.Cleanup(func() { cancel(); _ = file.Close() })
	size := func() int {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return int(info.Size())
	}
	labtest.Eventually(p, 10*time.Second, "the capture is in place", func() error {
		if size() < 24 {
			return errors.New("no header yet")
		}
		return nil
	})
	return func(control string) []segment {
		p.Helper()
		var content []byte
		labtest.Eventually(p, 10*time.Second, "the capture shows what went in the clear", func() error {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
			if !bytes.Contains(content, []byte(control)) {
				return errors.New("it does not")
			}
			return nil
		})
		cancel()
		if err := <-done; err != nil {
			p.Fatal(err)
		}
		segments, err := parseCapture(content)
		if err != nil {
			p.Fatal(err)
		}
		return segments
	}
}

// segment is one TCP segment with a payload.
type segment struct {
	from, to         string
	fromPort, toPort uint16
	payload          []byte
}

func (s segment) has(port uint16) bool { return s.fromPort == port || s.toPort == port }

// parseCapture reads TCP over IPv4 over Ethernet from a pcap file; a last record
// that is not whole yet is left out.
func parseCapture(content []byte) ([]segment, error) {
	if len(content) < 24 || binary.LittleEndian.Uint32(content) != 0xa1b2c3d4 {
		return nil, errors.New("not a pcap file")
	}
	var segments []segment
	for content = content[24:]; len(content) >= 16; {
		length := int(binary.LittleEndian.Uint32(content[8:]))
		if len(content) < 16+length {
			break
		}
		if s, ok := parseFrame(content[16 : 16+length]); ok {
			segments = append(segments, s)
		}
		content = content[16+length:]
	}
	return segments, nil
}

func parseFrame(frame []byte) (segment, bool) {
	if len(frame) < 34 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 {
		return segment{}, false
	}
	packet := frame[14:]
	header, total := int(packet[0]&0x0f)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if packet[9] != 6 || len(packet) < header+20 {
		return segment{}, false
	}
	if total == 0 || total > len(packet) {
		total = len(packet)
	}
	tcp := packet[header:total]
	offset := int(tcp[12]>>4) * 4
	if offset >= len(tcp) {
		return segment{}, false
	}
	s := segment{
		fromPort: binary.BigEndian.Uint16(tcp), toPort: binary.BigEndian.Uint16(tcp[2:]),
		payload: tcp[offset:],
	}
	s.from = fmt.Sprintf("%s:%d", net.IP(packet[12:16]), s.fromPort)
	s.to = fmt.Sprintf("%s:%d", net.IP(packet[16:20]), s.toPort)
	return s, true
}

// saysThatItIsNotSegmented holds the loopback engine to its words.
func saysThatItIsNotSegmented(p *proof) {
	const edge = "mongo-repl -> mongo-repl"
	status := p.lab.Status()
	if status.Segmented || !slices.Contains(status.Unsegmented, edge) || len(status.Limits) == 0 {
		p.Errorf("segmented %v, around the mesh %q, limits %q", status.Segmented, status.Unsegmented, status.Limits)
	}
	text := p.lab.Must("status").Stdout
	if !strings.Contains(text, "NOT SEGMENTED") || !strings.Contains(text, edge) {
		p.Errorf("status does not say that it is not segmented:\n%s", text)
	}
}
