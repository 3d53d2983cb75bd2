package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// rebuildTimes is a histogram's sum and count.
type rebuildTimes struct{ seconds, count float64 }

var rebuildMetric = regexp.MustCompile(`(?m)^sluice_gateway_\w*build\w*_seconds_(sum|count)\S* (\S+)$`)

// rebuilds reads from the gateway's metrics what building its table has taken;
// nothing if it does not tell.
func rebuilds(ctx context.Context, address string) rebuildTimes {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return rebuildTimes{}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return rebuildTimes{}
	}
	defer func() { _ = response.Body.Close() }()
	var text strings.Builder
	_, _ = io.Copy(&text, io.LimitReader(response.Body, 16<<20))
	return parseRebuilds(text.String())
}

func parseRebuilds(text string) rebuildTimes {
	var t rebuildTimes
	for _, match := range rebuildMetric.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			continue
		}
		if match[1] == "sum" {
			t.seconds += n
		} else {
			t.count += n
		}
	}
	return t
}
