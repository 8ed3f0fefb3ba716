package snapproxy

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackAfterACrowd(t *testing.T) {
	for _, tt := range []struct {
		name              string
		come, leave, back int // streams; back: before it is time
		want              int
	}{
		{"few", crowdLeast - 1, crowdLeast - 1, 0, 0},
		{"many", 1000, 1000, 0, 1},
		{"some stay", 1000, 900, 0, 1},
		{"most stay", 1000, 800, 0, 0},
		{"they come back", 1000, 1000, 200, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				freed := 0
				c := crowd{free: func() { freed++ }}
				for range tt.come {
					c.enter()
				}
				for range tt.leave {
					c.leave()
				}
				time.Sleep(crowdRest / 2)
				for range tt.back {
					c.enter()
				}
				time.Sleep(crowdRest)
				synctest.Wait()
				if freed != tt.want {
					t.Fatalf("memory was given back %d times, want %d", freed, tt.want)
				}
				for range tt.come - tt.leave + tt.back {
					c.leave()
				}
				time.Sleep(2 * crowdRest)
				synctest.Wait()
				if want := min(1, tt.come/crowdLeast); freed != want {
					t.Errorf("after all have left memory was given back %d times, want %d", freed, want)
				}
			})
		})
	}
}
