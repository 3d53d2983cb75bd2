package lab

import (
	"errors"
	"fmt"
	"net/url"
	"testing"
)

func TestAnErrorOfConsulIsToldFromNoAnswerAtAll(t *testing.T) {
	silent := []error{
		fmt.Errorf("list intentions: %w", &url.Error{Op: "Get", URL: "http://127.0.0.1:1/", Err: errors.New("reset by peer")}),
		errors.New("list intentions: Unexpected response code: 500 (No cluster leader)"),
	}
	for _, err := range silent {
		if got := Unanswered(err); got == nil || got.Hint == "" || got.Code != 2 {
			t.Errorf("%v: %+v, want exit code 2 and a hint", err, got)
		}
	}
	for _, err := range []error{nil, errors.New("refused by Consul's ACLs")} {
		if got := Unanswered(err); got != nil {
			t.Errorf("%v is taken for silence: %v", err, got)
		}
	}
}
