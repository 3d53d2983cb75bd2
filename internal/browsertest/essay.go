package browsertest

// Essay is an entry for a blog, in Markdown, with something of everything that a reader
// meets: emphasis, a heading, a list, a quotation, a table and code.
const Essay = `A deny that only stops the *next* connection is a promise. This one is kept for the connections that are **already open**.

## What happens on the wire

1. Somebody writes the intention.
2. Every process that it concerns sees it within milliseconds.
3. Connections that are no longer allowed are reset; the others do not notice.

> An intention is a sentence: who may talk to whom.

| edge | before | after |
|---|---|---|
| gateway to web | open | open |
| web to mongo-primary | open | reset |

Try it with ` + "`sluice intentions`" + `, and watch the topology page while you do:

    sluice intentions deny web mongo-primary
    sluice intentions allow web mongo-primary
`
