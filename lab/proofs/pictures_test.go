package proofs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/browsertest"
	"sluice/internal/labtest"
)

// mostPicture bounds a picture, in bytes: they are kept in the repository.
const mostPicture = 200_000

// The screens that pictures are taken of.
var (
	deskLight = browsertest.Screen{Width: 1280, Height: 860, Scheme: "light"}
	deskDark  = browsertest.Screen{Width: 1280, Height: 860, Scheme: "dark"}
	telephone = browsertest.Screen{Width: 390, Height: 844, Scheme: "light", Scale: 1.5}
	projector = browsertest.Screen{Width: 1920, Height: 1080, Scheme: "light"}
)

// TestPictures takes the pictures of the documentation into the folder that
// SLUICE_PICTURES names, from a lab of its own: make pictures.
func TestPictures(t *testing.T) {
	dir := os.Getenv("SLUICE_PICTURES")
	if dir == "" {
		t.Skip("SLUICE_PICTURES names no folder")
	}
	shared := labtest.New(t, labtest.Variant{Engine: "netns"}, offset)
	shared.Up()
	p := newProof(t, shared)
	s := &studio{proof: p, tab: browsertest.Start(t, 5*time.Minute), dir: dir, url: p.lab.URL(9999, "/web")}
	s.logIn()
	s.configure("web/tagline", "A mesh that you can watch, and cut.")
	for _, entry := range essays() {
		s.write(entry[0], entry[1])
	}
	s.ofTheBlog()
	s.ofTheAdministration()
	s.ofTheTopology()
}

// studio takes pictures.
type studio struct {
	*proof
	tab      *browsertest.Tab
	dir, url string
}

func (s *studio) logIn() {
	s.tab.Open(s.url + "/admin")
	s.tab.Type("#name", "admin")
	s.tab.Type("#password", s.adminPassword())
	s.tab.Press("main form button")
}

// configure changes what web follows, as the operator of the lab.
func (s *studio) configure(key, value string) {
	s.Helper()
	if err := s.consul.KVPut(s.bounded(10*time.Second), key, []byte(value)); err != nil {
		s.Fatal(err)
	}
}

func (s *studio) write(headline, body string) {
	s.tab.Open(s.url + "/admin/entries/new")
	s.tab.Fill("#title", headline)
	s.tab.Fill("#body", body)
	s.tab.Press("button[value=save]")
	s.tab.Shows(headline, "Log out admin")
}

// take writes a picture of one screen, or of the whole page.
func (s *studio) take(name string, screen browsertest.Screen, whole bool) {
	s.Helper()
	s.tab.On(screen)
	path := filepath.Join(s.dir, name+".png")
	s.tab.Picture(path, whole)
	if file, err := os.Stat(path); err != nil || file.Size() > mostPicture {
		s.Errorf("%s is too large: %v, %v", path, file.Size(), err)
	}
}

func (s *studio) ofTheBlog() {
	s.tab.Open(s.url + "/blog/main?read=nearest")
	s.take("blog-list", deskLight, false)
	s.take("blog-projector", projector, false)
	s.tab.Press(".teaser h2 a")
	s.take("blog-entry", deskLight, true)
	s.take("blog-entry-dark", deskDark, true)
	s.take("blog-phone", telephone, false)
}

func (s *studio) ofTheAdministration() {
	s.tab.Open(s.url + "/admin")
	edit := browsertest.Ask[string](s.tab, "document.querySelector('.row h2 a').href")
	other := s.tab.Another()
	for _, tab := range []*browsertest.Tab{other, s.tab} {
		tab.Open(edit)
	}
	other.Type("#title", "Theirs: ")
	other.Press("button[value=save]")
	s.tab.Type("#title", "Mine: ")
	s.tab.Press("button[value=save]")
	s.tab.Shows("Somebody else has changed this entry")
	s.take("blog-conflict", deskLight, true)
	s.configure("web/read_preference", "fastest")
	s.tab.Open(s.url + "/admin/configuration")
	s.tab.Shows("fastest")
	s.take("configuration", deskLight, true)
	s.configure("web/read_preference", "nearest")
}

func (s *studio) ofTheTopology() {
	s.tab.Open(s.url)
	s.tab.Shows("Live: what changes shows here at once.")
	s.lab.Must("mongo", "stepdown")
	s.tab.Shows("is primary now. It was")
	s.take("web-light", deskLight, false)
	s.take("web-dark", deskDark, false)
	s.take("web-phone", telephone, false)
	s.take("web-projector", projector, false)
	s.lab.Must("intentions", "deny", "web", "mongo-primary")
	s.tab.Shows("web -> mongo-primary is denied")
	s.take("web-denied", browsertest.Screen{Width: 1280, Height: 1480, Scheme: "light"}, false)
}

// essays are headlines and texts, the newest last.
func essays() [][2]string {
	return [][2]string{
		{"Two certificates for every sentence", "You typed a word, and three processes had to prove who they are before it was stored. Here is the way it took, with the name that each of them carries."},
		{"A hand-over nobody noticed", "The primary stepped down while this text was being saved. The write waited for its successor and then went through; the form did not even flicker."},
		{"What a replica knows", "This page may have been read from a secondary: the foot of it says which. A reader who wants the last word can ask for the primary, and gets it."},
		{"Least privilege, in one token", "Each process holds a token that can do what its work needs, and no more. `web` may read its own configuration; changing it takes an operator."},
		{"Cutting a connection that is open", browsertest.Essay},
	}
}
