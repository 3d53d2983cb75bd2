package accesslog

import (
	"strconv"
	"time"
)

// object writes the members of one JSON object. What is empty is left out.
type object struct {
	dst   []byte
	view  *view
	begun bool
}

// appendObject appends an entry as one line of JSON.
func appendObject(dst []byte, v *view) []byte {
	e := &v.entry
	o := object{dst: append(dst, '{'), view: v}
	o.value("time", ofTime("2006-01-02T15:04:05.000000Z"))
	o.value("remote", func(dst []byte, v *view) []byte { return appendAddr(dst, e.Client) })
	o.text("user", textUser)
	o.text("method", textMethod)
	o.value("scheme", func(dst []byte, v *view) []byte { return appendScheme(dst, e.TLS) })
	o.text("host", textHost)
	o.value("target", ofTarget(textTarget))
	o.text("protocol", textProtocol)
	o.number("status", int64(e.Status))
	o.flags(e.Flags)
	o.text("reason", textReason)
	o.number("bytes_in", e.BytesIn)
	o.number("bytes_out", e.BytesOut)
	o.number("duration_us", max(0, e.End.Sub(e.Start)).Microseconds())
	if e.Overhead > 0 {
		o.number("overhead_us", e.Overhead.Round(time.Microsecond).Microseconds())
	}
	o.text("route", textRoute)
	o.text("service", textService)
	o.text("instance", textInstance)
	o.text("dc", textDatacenter)
	o.value("upstream", func(dst []byte, v *view) []byte { return appendAddr(dst, e.Upstream) })
	o.value("upstream_target", ofTarget(textUpstreamTarget))
	if e.Attempts > 0 {
		o.number("attempts", int64(e.Attempts))
	}
	o.text("source", textSource)
	o.text("destination", textDestination)
	o.text("serial", textSerial)
	o.text("request_id", textRequestID)
	o.value("referer", ofTarget(textReferer))
	o.text("user_agent", textUserAgent)
	return append(o.dst, "}\n"...)
}

func (o *object) key(name string) {
	if o.begun {
		o.dst = append(o.dst, ',')
	}
	o.begun = true
	o.dst = append(append(append(o.dst, '"'), name...), `":`...)
}

func (o *object) number(name string, n int64) {
	o.key(name)
	o.dst = strconv.AppendInt(o.dst, n, 10)
}

func (o *object) text(name string, i int) {
	if text := o.view.text(i); len(text) > 0 {
		o.key(name)
		o.dst = appendJSON(o.dst, text)
	}
}

func (o *object) value(name string, value field) {
	o.view.scratch = value(o.view.scratch[:0], o.view)
	if len(o.view.scratch) > 0 {
		o.key(name)
		o.dst = appendJSON(o.dst, o.view.scratch)
	}
}

func (o *object) flags(f Flags) {
	if f == 0 {
		return
	}
	o.key("flags")
	separator := byte('[')
	f.each(func(name string) {
		o.dst = append(append(o.dst, separator), '"')
		o.dst = append(append(o.dst, name...), '"')
		separator = ','
	})
	o.dst = append(o.dst, ']')
}
