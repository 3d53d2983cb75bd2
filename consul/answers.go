package consul

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"

	"sluice/consul/answers"
)

// readerKey finds in the context of a request what reads its answer.
type readerKey struct{}

// answerReader reads the body of an answer to its end. buffer is its own meanwhile.
type answerReader func(from io.Reader, buffer []byte) error

// readBy returns options for a query whose answer read gets as it arrives. The api
// package asks the query and judges its status and head, and finds a null where the
// body was; an error of read is that of the query. read is not called if there is no
// good answer.
func readBy(options *api.QueryOptions, read answerReader) *api.QueryOptions {
	return options.WithContext(context.WithValue(options.Context(), readerKey{}, read))
}

// readEntries is readBy for a query about instances.
func readEntries(options *api.QueryOptions, reader *answers.Entries, entries *[]*answers.Entry) *api.QueryOptions {
	return readBy(options, func(from io.Reader, buffer []byte) (err error) {
		*entries, err = reader.Read(from, buffer)
		return err
	})
}

// readJSON is readBy for an answer that encoding/json reads into a type of our own.
func readJSON(options *api.QueryOptions, into any) *api.QueryOptions {
	return readBy(options, func(from io.Reader, _ []byte) error { return json.NewDecoder(from).Decode(into) })
}

// passOn gives the answer to who reads it, if somebody does.
func (t *tokenTransport) passOn(request *http.Request, response *http.Response) {
	read, ok := request.Context().Value(readerKey{}).(answerReader)
	if !ok || response.StatusCode != http.StatusOK {
		return
	}
	response.Body = &readBody{from: response.Body, read: read, buffers: &t.buffers}
}

// errTooLong means that an answer does not end where each one does.
var errTooLong = errors.New("the answer is too long to be Consul's")

// bound lets no answer be longer than is good.
func (t *tokenTransport) bound(response *http.Response) {
	if response.StatusCode == http.StatusOK {
		response.Body = &boundBody{ReadCloser: response.Body, left: t.longest}
		return
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxExcuse), response.Body}
}

// boundBody is the body of an answer that fails where it is too long.
type boundBody struct {
	io.ReadCloser
	left int64
}

// Read reads the answer.
func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// readBody is the body of an answer that somebody else reads.
type readBody struct {
	from    io.ReadCloser
	read    answerReader
	buffers *sync.Pool
	rest    *strings.Reader
	err     error
}

// Read has the answer read, at the first call, and is a null.
func (b *readBody) Read(p []byte) (int, error) {
	if b.rest == nil {
		b.rest = strings.NewReader("null")
		buffer, ok := b.buffers.Get().(*[]byte)
		if !ok {
			// While nothing is read, as is nearly always so, a watch has none.
			buffer = new(make([]byte, answers.BufferSize))
		}
		b.err = b.read(b.from, *buffer)
		b.buffers.Put(buffer)
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.rest.Read(p)
}

// Close closes the answer.
func (b *readBody) Close() error { return b.from.Close() }
