package proofs_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// exchange sends one request and reads its answer, in the language of the
// service.
func exchange(reader *bufio.Reader, writer io.Writer, service string) error {
	if strings.HasPrefix(service, "mongo-") {
		return hello(reader, writer)
	}
	return request(reader, writer)
}

// hello asks mongod for its role, which it tells without authentication.
func hello(reader io.Reader, writer io.Writer) error {
	document, err := bson.Marshal(bson.D{{Key: "hello", Value: 1}, {Key: "$db", Value: "admin"}})
	if err != nil {
		return err
	}
	const opMsg = 2013
	message := binary.LittleEndian.AppendUint32(nil, uint32(16+4+1+len(document)))
	message = binary.LittleEndian.AppendUint32(message, 1)
	message = binary.LittleEndian.AppendUint32(message, 0)
	message = binary.LittleEndian.AppendUint32(message, opMsg)
	message = append(message, 0, 0, 0, 0, 0)
	if _, err := writer.Write(append(message, document...)); err != nil {
		return err
	}
	header := make([]byte, 16)
	if _, err := io.ReadFull(reader, header); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(header)
	if length < 21 || length > 1<<20 || binary.LittleEndian.Uint32(header[12:]) != opMsg {
		return errors.New("not an answer of mongod")
	}
	body := make([]byte, length-16)
	if _, err := io.ReadFull(reader, body); err != nil {
		return err
	}
	if ok, err := bson.Raw(body[5:]).LookupErr("ok"); err != nil || ok.AsInt64() != 1 {
		return fmt.Errorf("mongod answered %s", bson.Raw(body[5:]))
	}
	return nil
}

// request asks for a page that does not exist: web answers it without asking
// anybody else.
func request(reader *bufio.Reader, writer io.Writer) error {
	if _, err := io.WriteString(writer, "GET /no-such-page HTTP/1.1\r\nHost: mesh\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
