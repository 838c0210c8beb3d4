package main

import (
	"go/ast"
	"go/token"
	"log"
	"math"
	"strconv"
	"strings"
)

const unbounded = math.MaxInt16

type request struct {
	name     string
	key      int
	last     int
	flexible int
	root     *field
	found    bool
}

type field struct {
	path        string
	name        string
	kind        string
	first, last int
	null        int
	size        string
	pointer     bool
	elem        *field
	sub         []*field
	tagged      []*field
	tag         int
}

func newField(path string) *field {
	return &field{path: path, name: path[strings.LastIndexByte(path, '.')+1:], last: unbounded, null: unbounded}
}

// fixedBytes are the readers of what has the same size always.
var fixedBytes = map[string]string{
	"Bool": "1", "Int8": "1", "Int16": "2", "Uint16": "2", "Int32": "4", "Uint32": "4",
	"Int64": "8", "Float64": "8", "Uuid": "16",
}

// parseStruct reads the statements that fill one struct, the request itself
// or a part of it. flexible is set only for the request itself.
func parseStruct(path string, stmts []ast.Stmt, flexible *int) *field {
	f := newField(path)
	f.kind = "object"
	if flexible != nil {
		*flexible = unbounded
	}
	for _, st := range stmts {
		switch st := st.(type) {
		case *ast.AssignStmt:
			if flexible != nil && typeString(st.Lhs[0]) == "isFlexible" {
				*flexible = intOf(st.Rhs[0].(*ast.BinaryExpr).Y)
			}
		case *ast.BlockStmt:
			f.sub = append(f.sub, parseField(path, st.List))
		case *ast.IfStmt:
			if id, ok := st.Cond.(*ast.Ident); ok && id.Name == "isFlexible" {
				f.tagged = parseTags(path, st.Body.List)
				continue
			}
			if st.Init != nil { // the error of a tagged field
				continue
			}
			s := parseField(path, st.Body.List)
			s.first, s.last = versionRange(st.Cond)
			if s.null != unbounded {
				s.null = max(s.null, s.first)
			}
			f.sub = append(f.sub, s)
		case *ast.ExprStmt, *ast.ReturnStmt: // v.Default(), return b.Complete()
		default:
			log.Fatalf("%s: statement %T in a struct", path, st)
		}
	}
	return f
}

func parseTags(path string, stmts []ast.Stmt) []*field {
	loop, ok := stmts[0].(*ast.ForStmt)
	if !ok {
		return nil // s.UnknownTags = internalReadTags(&b)
	}
	var tagged []*field
	for _, c := range loop.Body.List[0].(*ast.SwitchStmt).Body.List {
		c := c.(*ast.CaseClause)
		if c.List == nil {
			continue
		}
		f := parseField(path, c.Body[1:]) // after b := kbin.Reader{…}
		f.tag = intOf(c.List[0])
		f.first = tagSince[f.path]
		tagged = append(tagged, f)
	}
	return tagged
}

// parseField reads the statements that fill one field of the struct at path.
func parseField(path string, stmts []ast.Stmt) *field {
	path += "." + fieldName(path, stmts)
	f := newField(path)
	fillField(f, stmts)
	if since, ok := nullSince[path]; ok {
		f.null = since
	}
	return f
}

func fillField(f *field, stmts []ast.Stmt) {
	switch st := stmts[0].(type) {
	case *ast.DeclStmt:
		fillDeclared(f, st, stmts[1:])
	case *ast.IfStmt: // if present := b.Int8(); …
		body := st.Body.List
		f.kind, f.null = "optional", 0
		f.size = "unsafe.Sizeof(kmsg." + typeString(body[0].(*ast.AssignStmt).Rhs[0].(*ast.CallExpr).Args[0]) + "{})"
		fillStruct(f, body[1:])
	case *ast.AssignStmt:
		switch rhs := st.Rhs[0].(type) {
		case *ast.CallExpr:
			f.kind, f.size = "fixed", fixedBytes[rhs.Fun.(*ast.SelectorExpr).Sel.Name]
			if f.size == "" {
				log.Fatalf("%s: unknown reader %s", f.path, typeString(rhs.Fun))
			}
		case *ast.UnaryExpr: // v := &s.Field
			f.kind = "object"
			fillStruct(f, stmts)
		case *ast.SelectorExpr: // v := s.Field
			fillArray(f, stmts)
		default:
			log.Fatalf("%s: assignment of %T", f.path, rhs)
		}
	default:
		log.Fatalf("%s: field begins with %T", f.path, st)
	}
}

func fillDeclared(f *field, decl *ast.DeclStmt, rest []ast.Stmt) {
	switch t := typeString(decl.Decl.(*ast.GenDecl).Specs[0].(*ast.ValueSpec).Type); t {
	case "string":
		f.kind = "text"
	case "*string":
		f.kind, f.null, f.pointer = "text", 0, true
		if st, ok := rest[0].(*ast.IfStmt); ok {
			if c, ok := st.Cond.(*ast.BinaryExpr); ok && typeString(c.X) == "version" {
				f.null = intOf(c.Y)
			}
		}
	case "[]byte":
		f.kind = "blob"
		ast.Inspect(rest[0], func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "NullableBytes" {
				f.null = 0
			}
			return true
		})
	default: // var t Enumeration; { v := b.Int8(); t = Enumeration(v) }
		fillField(f, rest[0].(*ast.BlockStmt).List)
	}
}

func fillStruct(f *field, stmts []ast.Stmt) {
	for i, st := range stmts { // up to s := v
		if a, ok := st.(*ast.AssignStmt); ok && typeString(a.Lhs[0]) == "s" {
			s := parseStruct(f.path, stmts[i+1:], nil)
			f.sub, f.tagged = s.sub, s.tagged
			return
		}
	}
	log.Fatalf("%s: no struct found", f.path)
}

func fillArray(f *field, stmts []ast.Stmt) {
	f.kind = "array"
	for _, st := range stmts {
		switch st := st.(type) {
		case *ast.IfStmt:
			c, ok := st.Cond.(*ast.BinaryExpr)
			if !ok {
				continue
			}
			if c.Op == token.LOR { // version < N || l == 0
				f.null = intOf(c.X.(*ast.BinaryExpr).Y)
			}
			if c.Op == token.GTR { // l > 0: a = append(a, make([]T, l)...)
				mk := st.Body.List[0].(*ast.AssignStmt).Rhs[0].(*ast.CallExpr).Args[1].(*ast.CallExpr)
				f.size = sizeOf(mk.Args[0].(*ast.ArrayType).Elt)
			}
		case *ast.ForStmt:
			f.elem = newField(f.path)
			f.elem.name = ""
			if u, ok := st.Body.List[0].(*ast.AssignStmt); ok {
				if _, ok := u.Rhs[0].(*ast.UnaryExpr); ok { // v := &a[i]
					f.elem.kind = "object"
					fillStruct(f.elem, st.Body.List)
					continue
				}
			}
			fillField(f.elem, st.Body.List)
		}
	}
	if f.size == "" || f.elem == nil {
		log.Fatalf("%s: array not understood", f.path)
	}
}

func sizeOf(t ast.Expr) string {
	switch s := typeString(t); s {
	case "string":
		return `unsafe.Sizeof("")`
	case "[16]byte":
		return "16"
	case "int8":
		return "1"
	case "int16":
		return "2"
	case "int32":
		return "4"
	case "int64":
		return "8"
	default:
		return "unsafe.Sizeof(kmsg." + s + "{})"
	}
}

// fieldName finds what the statements fill: s.Name = … or &s.Name.
func fieldName(path string, stmts []ast.Stmt) string {
	name := ""
	for _, st := range stmts {
		var e ast.Expr
		switch st := st.(type) {
		case *ast.AssignStmt:
			e = st.Lhs[0]
			if u, ok := st.Rhs[0].(*ast.UnaryExpr); ok {
				e = u.X
			}
		case *ast.IfStmt:
			if st.Init == nil || len(st.Body.List) == 0 {
				continue
			}
			if a, ok := st.Body.List[0].(*ast.AssignStmt); ok {
				e = a.Lhs[0]
			}
		}
		if s, ok := e.(*ast.SelectorExpr); ok && typeString(s.X) == "s" {
			return s.Sel.Name
		}
	}
	if name == "" {
		log.Fatalf("%s: field without a name", path)
	}
	return name
}

// versionRange reads version >= N [&& version <= M].
func versionRange(e ast.Expr) (first, last int) {
	c := e.(*ast.BinaryExpr)
	if c.Op == token.LAND {
		first, _ = versionRange(c.X)
		_, last = versionRange(c.Y)
		return first, last
	}
	switch c.Op {
	case token.GEQ:
		return intOf(c.Y), unbounded
	case token.LEQ:
		return 0, intOf(c.Y)
	}
	log.Fatalf("version range with %s", c.Op)
	return 0, 0
}

func intOf(e ast.Expr) int {
	n, err := strconv.Atoi(e.(*ast.BasicLit).Value)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func typeString(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return "*" + typeString(e.X)
	case *ast.SelectorExpr:
		return typeString(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		if e.Len != nil {
			return "[" + e.Len.(*ast.BasicLit).Value + "]" + typeString(e.Elt)
		}
		return "[]" + typeString(e.Elt)
	}
	return ""
}
