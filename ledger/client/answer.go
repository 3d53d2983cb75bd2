package client

import (
	"errors"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/ledger"
)

// settled is what an insert's result says by itself; 0 leaves it open. A
// duplicate key is no acknowledgement: the document that is in the way may be
// this write's own, on a primary that is cut off and rolls it back later.
func settled(err error) ledger.Kind {
	switch {
	case err == nil:
		return ledger.Acknowledged
	case mongo.IsDuplicateKeyError(err):
		return ledger.Duplicate
	default:
		return 0
	}
}

// giveUp is the answer when the last attempt failed.
func giveUp(possible bool) ledger.Kind {
	if possible {
		return ledger.Unknown
	}
	return ledger.Refused
}

// looked is what a read came to.
func looked(err error) string {
	switch {
	case err == nil:
		return ledger.Found
	case errors.Is(err, mongo.ErrNoDocuments):
		return ledger.Missing
	default:
		return describe(err)
	}
}
