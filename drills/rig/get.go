package rig

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// GetCommand is the hidden first argument with which a rehearsal's program runs
// itself inside a node: the second one is a URL.
const GetCommand = "__get"

// Get writes a page to out. An answer other than 200 is an error.
func Get(url string, out io.Writer) error {
	client := &http.Client{Timeout: 3 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, response.Status)
	}
	_, err = io.Copy(out, io.LimitReader(response.Body, 4<<20))
	return err
}
