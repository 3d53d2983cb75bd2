package intentions

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	hclstrconv "github.com/hashicorp/hcl/hcl/strconv"
	"github.com/hashicorp/hcl/hcl/token"
)

// Kind is the kind of config entry that holds intentions.
const Kind = "service-intentions"

// maxDescription is the length in bytes that Consul allows (Consul,
// agent/structs: metaValueMaxLength).
const maxDescription = 512

// Parse reads one intention file. It takes the part of what "consul config
// write" takes that a native service in Consul's community edition can use, and
// refuses the rest by name, so that nothing is silently dropped. The error is
// Problems.
func Parse(name string, source []byte) (Entry, error) {
	p := fileParser{file: name}
	tree, err := parser.ParseDontErrorOnDuplicateKeys(source)
	if err != nil {
		return Entry{}, Problems{p.syntax(err)}
	}
	list, ok := tree.Node.(*ast.ObjectList)
	if !ok {
		return Entry{}, Problems{{Error, Position{name, 1}, "the file is not a list of settings", `start with Kind = "service-intentions"`}}
	}
	entry := p.entry(list)
	p.problems.sort()
	if err := p.problems.Err(); err != nil {
		return Entry{}, err
	}
	return entry, nil
}

// fileParser turns one file's syntax tree into an Entry and collects what is
// wrong with it.
type fileParser struct {
	file     string
	problems Problems
}

func (p *fileParser) add(line int, fix, format string, args ...any) {
	// An empty list or object has no position of its own in the syntax tree.
	p.problems = append(p.problems, Problem{Error, Position{p.file, max(line, 1)}, fmt.Sprintf(format, args...), fix})
}

// syntax turns an error of the HCL parser into a problem. The parser wraps an
// error inside a list into the text of another one, so the innermost position
// is read from the text.
func (p *fileParser) syntax(err error) Problem {
	line, text := 1, err.Error()
	where := regexp.MustCompile(`At (\d+):\d+: `).FindAllStringSubmatchIndex(text, -1)
	var positioned *parser.PosError
	switch {
	case len(where) > 0:
		last := where[len(where)-1]
		line, _ = strconv.Atoi(text[last[2]:last[3]])
		text = text[last[1]:]
	case errors.As(err, &positioned):
		line = positioned.Pos.Line
	}
	return Problem{Error, Position{p.file, max(line, 1)}, "cannot read HCL: " + text, "mend the syntax at or before this line"}
}

func (p *fileParser) entry(list *ast.ObjectList) Entry {
	settings := p.settings(list, "the entry", []string{"Kind", "Name", "Sources"})
	if item, ok := settings["Kind"]; ok {
		if kind, ok := p.text(item, "Kind"); ok && kind != Kind {
			p.add(line(item), `write Kind = "service-intentions"`, "Kind is %q", kind)
		}
	} else {
		p.add(1, `add Kind = "service-intentions"`, "the file has no Kind")
	}
	entry := Entry{Position: Position{p.file, 1}}
	if item, ok := settings["Name"]; ok {
		entry.Position.Line = line(item)
		entry.Destination, _ = p.service(item)
	} else {
		p.add(1, "add the destination, for example Name = \"web\"", "the file has no Name")
	}
	item, ok := settings["Sources"]
	if !ok {
		p.add(1, "add Sources = [{ Name = ..., Action = ... }]", "the file has no Sources")
		return entry
	}
	for _, source := range p.objects(item, "Sources") {
		entry.Rules = append(entry.Rules, p.rule(source, entry.Destination, line(item)))
	}
	return entry
}

func (p *fileParser) rule(object *ast.ObjectType, destination string, fallback int) Rule {
	at := object.Lbrace.Line
	if at == 0 {
		at = fallback
	}
	rule := Rule{Destination: destination, Position: Position{p.file, at}}
	settings := p.settings(object.List, "a source", []string{"Name", "Action", "Description", "Permissions", "Type"})
	if item, ok := settings["Name"]; ok {
		rule.Source, _ = p.service(item)
		rule.Position.Line = line(item)
	} else {
		p.add(at, "add the service that opens the connection, or \"*\"", "a source has no Name")
	}
	if item, ok := settings["Description"]; ok {
		rule.Description, _ = p.text(item, "Description")
		if n := len(rule.Description); n > maxDescription {
			p.add(line(item), "shorten it", "Description is %d bytes long, and Consul takes %d", n, maxDescription)
		}
	}
	if item, ok := settings["Type"]; ok {
		if kind, ok := p.text(item, "Type"); ok && kind != "consul" {
			p.add(line(item), "remove it", "Type is %q, and Consul knows only \"consul\"", kind)
		}
	}
	action, hasAction := settings["Action"]
	permissions, hasPermissions := settings["Permissions"]
	switch {
	case hasAction && hasPermissions:
		p.add(line(permissions), "keep one of them", "a source has both Action and Permissions")
	case hasAction:
		text, ok := p.text(action, "Action")
		rule.Action = Action(text)
		if ok && rule.Action != Allow && rule.Action != Deny {
			p.add(line(action), `write "allow" or "deny"`, "Action is %q", text)
		}
	case hasPermissions:
		rule.L7 = true
		p.objects(permissions, "Permissions")
	default:
		p.add(at, `add Action = "allow" or Action = "deny"`, "a source has no Action")
	}
	return rule
}

// settings returns the assignments of an object by their canonical key. Consul
// does not mind the case of a key, so neither does this.
func (p *fileParser) settings(list *ast.ObjectList, owner string, known []string) map[string]*ast.ObjectItem {
	settings := map[string]*ast.ObjectItem{}
	for _, item := range list.Items {
		if len(item.Keys) != 1 {
			p.add(line(item), "write Key = value", "%s has a labelled block", owner)
			continue
		}
		written, ok := p.key(item.Keys[0])
		if !ok {
			continue
		}
		key, ok := canonical(written, known)
		if !ok {
			p.add(line(item), p.advice(written, known), "%s has an unknown key %q", owner, written)
			continue
		}
		if first, twice := settings[key]; twice {
			fix := "keep one of them"
			if owner == "the entry" {
				fix = "keep one of them: a file holds the entry of one destination"
			}
			p.add(line(item), fix, "%s has a second %s, beside line %d", owner, key, line(first))
			continue
		}
		settings[key] = item
	}
	return settings
}

func (p *fileParser) advice(key string, known []string) string {
	switch strings.ToLower(strings.ReplaceAll(key, "_", "")) {
	case "namespace", "partition":
		return "remove it: namespaces and partitions are Consul Enterprise features"
	case "peer", "samenessgroup":
		return "remove it: cluster peering cannot carry the traffic of native services"
	case "jwt":
		return "remove it: a native service sees connections, not requests, and so no JWT"
	case "precedence":
		return "remove it: Consul computes it from how exact the names are"
	case "meta":
		return "write it into the Description of a source"
	}
	if word, ok := closest(key, known); ok {
		return "did you mean " + word + "?"
	}
	return "use " + strings.Join(known, ", ")
}

// objects returns the objects of a list, or the one object of a block.
func (p *fileParser) objects(item *ast.ObjectItem, key string) []*ast.ObjectType {
	list, ok := item.Val.(*ast.ListType)
	if !ok {
		p.add(line(item), "write "+key+" = [{ ... }]", "%s is not a list", key)
		return nil
	}
	if len(list.List) == 0 {
		p.add(line(item), "name at least one, or delete the file", "%s is empty", key)
	}
	var objects []*ast.ObjectType
	for _, node := range list.List {
		object, ok := node.(*ast.ObjectType)
		if !ok {
			p.add(node.Pos().Line, "write { Key = value }", "%s holds something that is not an object", key)
			continue
		}
		objects = append(objects, object)
	}
	return objects
}

// service reads the name of a service, or the wildcard.
func (p *fileParser) service(item *ast.ObjectItem) (string, bool) {
	name, ok := p.text(item, "Name")
	if !ok {
		return "", false
	}
	if name != Wildcard && !isServiceName(name) {
		p.add(line(item), `use lower-case letters, digits, "-", "_" and ".", or "*" alone`, "%q is not a service name", name)
		return "", false
	}
	return name, true
}

func (p *fileParser) text(item *ast.ObjectItem, key string) (string, bool) {
	literal, ok := item.Val.(*ast.LiteralType)
	if !ok || literal.Token.Type != token.STRING {
		p.add(line(item), "write "+key+` = "..."`, "%s is not a quoted string", key)
		return "", false
	}
	text, err := hclstrconv.Unquote(literal.Token.Text)
	if err != nil {
		p.add(line(item), "mend the escapes in it", "%s is not a valid string", key)
		return "", false
	}
	return text, true
}

func (p *fileParser) key(key *ast.ObjectKey) (string, bool) {
	if key.Token.Type != token.STRING {
		return key.Token.Text, true
	}
	text, err := hclstrconv.Unquote(key.Token.Text)
	if err != nil {
		p.add(key.Pos().Line, "write it without quotes", "%s is not a valid key", key.Token.Text)
		return "", false
	}
	return text, true
}

func canonical(written string, known []string) (string, bool) {
	for _, key := range known {
		if strings.EqualFold(key, written) {
			return key, true
		}
	}
	return "", false
}

func line(item *ast.ObjectItem) int { return item.Pos().Line }

func isServiceName(name string) bool {
	if name == "" || name == "." || name == ".." {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}
