package lab

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sluice/lab/control"
)

func TestASettingIsAwaitedUntilAllRunWithItWhomNoFaultKeepsFromIt(t *testing.T) {
	slow := PendingProcess{Process: "web-1/web", Reason: "it runs with \"false\""}
	frozen := PendingProcess{Process: "web-2/web", Reason: "stopped", Faulty: true}
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		result, err := awaitSetting(t.Context(), func(context.Context) SettingResult {
			if asked++; asked < 4 {
				return SettingResult{Pending: []PendingProcess{slow, frozen}}
			}
			return SettingResult{Processes: []string{"web-1/web"}, Pending: []PendingProcess{frozen}}
		})
		if err != nil || asked != 4 || len(result.Processes) != 1 || len(result.Pending) != 1 || result.Seconds != (3*pollInterval).Seconds() {
			t.Errorf("after %d questions: %+v, %v", asked, result, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		result, err := awaitSetting(t.Context(), func(context.Context) SettingResult {
			return SettingResult{Pending: []PendingProcess{slow}}
		})
		if err != nil || len(result.Pending) != 1 || time.Since(began) < settingTimeout || time.Since(began) > settingTimeout+time.Second {
			t.Errorf("one that never takes it over, after %s: %+v, %v", time.Since(began), result, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := awaitSetting(ctx, func(context.Context) SettingResult { return SettingResult{Pending: []PendingProcess{slow}} })
		var failure *control.Error
		if !errors.As(err, &failure) || failure.Code != 3 {
			t.Errorf("whoever asks has no more time: %v", err)
		}
	})
}
