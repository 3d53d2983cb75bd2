package failover

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/drills/rig"
	"sluice/ledger"
	"sluice/mesh"
)

// Way is how one of a run's ledgers is written.
type Way struct {
	// Via is "port" or "members", Rate writes each second.
	Via  string
	Rate int
	// WriteConcern is "majority", which empty stands for, or a number of members.
	WriteConcern string
}

// String names the way; it is the Via of its results.
func (w Way) String() string {
	if w.WriteConcern == "" {
		return w.Via
	}
	return w.Via + " w:" + w.WriteConcern
}

// RunConfig says how rows are run.
type RunConfig struct {
	Rig *rig.Rig
	// Folder keeps the ledgers.
	Folder string
	// Node writes.
	Node string
	// Ways are written at the same time; the first one is the one that is waited for.
	Ways []Way
	// Patience bounds each wait for writes to be acknowledged again and for health.
	Patience time.Duration
	// Profile is what the lab runs with, for the result.
	Profile string
}

// Result is one run of a row.
type Result struct {
	Row     string `json:"row"`
	Profile string `json:"profile"`
	Via     string `json:"via"`
	Run     int    `json:"run"`
	// Injected and Undone are when the fault was made and ended.
	Injected time.Time `json:"injected"`
	Undone   time.Time `json:"undone"`
	// GapMS is the longest time without an acknowledged write that touches the
	// fault, BackMS the longest around its end.
	GapMS  float64 `json:"gap_ms"`
	BackMS float64 `json:"back_ms"`
	// Steady is the longest time without an acknowledged write before the fault.
	SteadyMS   float64        `json:"steady_ms"`
	UserErrors int            `json:"user_errors"`
	Errors     map[string]int `json:"errors,omitempty"`
	Lost       int            `json:"lost"`
	StaleReads int            `json:"stale_reads"`
	// Later are the writes that were acknowledged after the fault had ended.
	Later    int            `json:"acknowledged_later"`
	Verdict  ledger.Verdict `json:"verdict"`
	Reasons  []string       `json:"reasons,omitempty"`
	Timeline []Moment       `json:"timeline,omitempty"`
	Ledger   string         `json:"ledger"`
	// Problem is why the run says nothing; empty when it counts.
	Problem string `json:"problem,omitempty"`
}

const (
	steadyBefore = 3 * time.Second
	settleAfter  = 2 * time.Second
	healthWithin = 90 * time.Second
)

// Once runs a row once. The results are those of each way; an error means that the
// lab is not fit for another run.
func (c RunConfig) Once(ctx context.Context, row Row, number int) ([]Result, error) {
	h, err := c.Rig.AwaitHealthy(ctx, healthWithin)
	if err != nil {
		return nil, err
	}
	recordings, err := c.record(ctx, row, number)
	if err != nil {
		return nil, err
	}
	base := Result{Row: row.Name, Profile: c.Profile, Run: number}
	problem := c.inject(ctx, row, &h, recordings[0], &base)
	var after seen
	if problem == nil {
		after = c.look(ctx)
	}
	// Whatever went wrong, the lab is healed and the ledgers are ended.
	base.Undone = time.Now()
	problem = errors.Join(problem, c.steps(ctx, row.undo(), h))
	if problem == nil {
		problem = recordings[0].AwaitSteady(ctx, base.Undone, settleAfter, c.Patience)
	}
	if len(row.Undo) > 0 || problem != nil {
		problem = errors.Join(problem, c.Rig.Do(ctx, "fault heal --all"))
	}
	for _, recording := range recordings {
		problem = errors.Join(problem, recording.Stop())
	}
	_, unhealthy := c.Rig.AwaitHealthy(ctx, healthWithin)
	results := make([]Result, 0, len(recordings))
	for _, recording := range recordings {
		results = append(results, c.result(ctx, base, recording, after, problem))
	}
	return results, errors.Join(unhealthy, ctx.Err())
}

// stock is the profile without assistance.
const stock = "stock"

// record starts a ledger for each way.
func (c RunConfig) record(ctx context.Context, row Row, number int) ([]*rig.Recording, error) {
	var recordings []*rig.Recording
	for _, way := range slices.Concat(c.Ways, row.Also) {
		file := filepath.Join(c.Folder, fmt.Sprintf("%s-%s-%d-%s.ledger", row.Name, c.Profile, number, strings.NewReplacer(" ", "-", ":", "").Replace(way.String())))
		recording, err := c.Rig.Record(ctx, rig.RecordConfig{Node: c.Node, Via: way.Via, Rate: way.Rate, WriteConcern: way.WriteConcern, File: file})
		if err != nil {
			for _, started := range recordings {
				err = errors.Join(err, started.Stop())
			}
			return nil, err
		}
		recordings = append(recordings, recording)
	}
	return recordings, nil
}

// inject makes the fault and waits until writes are acknowledged again.
func (c RunConfig) inject(ctx context.Context, row Row, h *rig.Health, recording *rig.Recording, base *Result) error {
	if err := recording.AwaitSteady(ctx, time.Now(), steadyBefore, c.Patience); err != nil {
		return err
	}
	if err := c.steps(ctx, row.Before, *h); err != nil {
		return err
	}
	now, err := rig.Judge(c.Rig.Roles(ctx))
	if err != nil {
		return fmt.Errorf("before the fault: %w", err)
	}
	*h = now
	// Asking cost the machine time that is not the fault's.
	if err := c.Rig.Do(ctx, "wait 300ms"); err != nil {
		return err
	}
	base.Injected = time.Now()
	if err := c.steps(ctx, row.Do, *h); err != nil {
		return err
	}
	if err := recording.AwaitSteady(ctx, base.Injected, 500*time.Millisecond, c.Patience); err != nil && !row.Documented {
		return err
	}
	return c.Rig.Do(ctx, fmt.Sprintf("wait %s", max(row.Hold-time.Since(base.Injected), time.Millisecond)))
}

func (c RunConfig) steps(ctx context.Context, steps []string, h rig.Health) error {
	for _, step := range steps {
		if err := c.Rig.Do(ctx, named(step, h)); err != nil {
			return err
		}
	}
	return nil
}

// seen is what the processes say of a fault.
type seen struct {
	roles    map[string]rig.Role
	switches []mesh.Switch
}

func (c RunConfig) look(ctx context.Context) seen {
	return seen{roles: c.Rig.Roles(ctx), switches: c.Rig.Switches(ctx, c.Node)}
}

// result measures one ledger.
func (c RunConfig) result(ctx context.Context, base Result, recording *rig.Recording, after seen, problem error) Result {
	r := base
	way := Way{Via: recording.Config.Via, WriteConcern: recording.Config.WriteConcern}
	r.Via, r.Ledger = way.String(), recording.Config.File
	report, err := c.Rig.Check(ctx, r.Ledger)
	problem = errors.Join(problem, err)
	book, err := rig.ReadBook(r.Ledger)
	problem = errors.Join(problem, err)
	if problem != nil {
		r.Problem = problem.Error()
	}
	r.UserErrors, r.Errors, r.Lost, r.StaleReads = report.UserErrors, report.Errors, report.Lost.Count, report.StaleReads.Count
	r.Verdict, r.Reasons = report.Verdict, report.Reasons
	if r.Injected.IsZero() || err != nil {
		return r
	}
	var lost int
	r.Later, lost = later(book, report, r.Undone)
	if way.WriteConcern != "" {
		r.forgive(report, lost)
	}
	gap := book.LongestGap(r.Injected, r.Undone)
	r.GapMS = milliseconds(gap.Length())
	r.BackMS = milliseconds(book.LongestGap(r.Undone, r.Undone.Add(10*time.Second)).Length())
	r.SteadyMS = milliseconds(book.LongestGap(r.Injected.Add(-steadyBefore), r.Injected.Add(-50*time.Millisecond)).Length())
	r.Timeline = Timeline(r.Injected, after.roles, after.switches, gap)
	return r
}

// later counts the writes that were acknowledged after the moment, and those of
// the lost among them, as far as the report names them.
func later(book ledger.Book, report ledger.Report, after time.Time) (acknowledged, lost int) {
	since := func(w ledger.Write) bool {
		return w.Outcome == ledger.Acknowledged && book.Header.Started.Add(w.At).After(after)
	}
	for _, w := range book.Writes {
		if since(w) {
			acknowledged++
		}
	}
	for _, document := range report.Lost.Documents {
		if seq, ours := book.Header.Sequence(document); ours && since(book.Writes[seq]) {
			lost++
		}
	}
	return acknowledged, lost
}

// forgive takes a weak write concern for what it is: one member's word may be lost
// with it. Only what was acknowledged after the fault had ended must be there, for
// then the old primary is back, and would have to be the one that said so.
func (r *Result) forgive(report ledger.Report, lost int) {
	if report.Verdict != ledger.Fail || report.Lost.Count == 0 {
		return
	}
	if report.Lost.Count > len(report.Lost.Documents) {
		r.Problem = fmt.Sprintf("%d writes are lost, and not all are named", report.Lost.Count)
		return
	}
	r.Lost = lost
	if lost == 0 && report.Duplicates.Count+report.Phantoms.Count == 0 {
		r.Verdict, r.Reasons = ledger.Pass, []string{}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
