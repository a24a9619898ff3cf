/* Build-time program: writes the loops of loops.h as C. Reads nothing but the primitive table. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/loops/loops.h"
#include "core/ir/prim.h"

/* Trees that become one loop, and for which kinds of leaves. Every primitive alone has a loop in
 * any case. A pass over a tile saved is worth a row here when a hot step has it. */
static const struct {
    const char *tree, *modes;
} trees[] = {
    {"add(mul(a,b),c)", "vvv vsv vvs vss"},
    {"sub(mul(a,b),c)", "vvv vsv vvs vss"},
    {"sub(c,mul(a,b))", "vvv vsv vvs"},
    {"mul(sub(a,b),c)", "vvv vsv vvs vss"},
    {"mul(add(a,b),c)", "vvv vsv vvs vss"},
    {"mul(mul(a,b),c)", "vvv vvs"},
    {"add(add(a,b),c)", "vvv vvs"},
    {"add(mul(a,a),b)", "vv vs"},
    {"add(mul(a,b),mul(c,d))", "vsvs vvvs vvvv"},
    {"add(mul(sub(a,b),c),d)", "vvvv vsss"},
    {"div(a,add(sqrt(b),c))", "vvs"},
    {"max(add(a,b),c)", "vvs"},
    {"max(add(mul(a,b),c),d)", "vvvs"},
    {"max(add(mul(sub(a,b),c),d),e)", "vvvvs"},         /* normalization and relu … */
    {"max(add(add(mul(sub(a,b),c),d),e),f)", "vvvvvs"}, /* … of a residual block */
    {"add(add(mul(sub(a,b),c),d),e)", "vvvvv"},
    {"sub(mul(a,b),add(mul(sub(c,d),e),f))", "vvvvvv"}, /* a normalization's gradient */
    {"mul(a,mul(sub(b,c),d))", "vvvv"},
    {"mul(a,mul(add(erf(mul(a,b)),c),d))", "vsss"}, /* gelu, and its gradient … */
    {"mul(add(mul(add(erf(mul(a,b)),c),d),mul(a,mul(exp(mul(mul(a,a),e)),f))),g)", "vsssssv"},
    {"max(min(add(mul(a,b),c),d),e)", "vssss"}, /* hard sigmoid, hard swish, ReLU6, … */
    {"mul(a,max(min(add(mul(b,c),d),e),f))", "vvssss"},
    {"min(max(add(mul(sub(a,b),c),d),e),f)", "vvvvss"},
    {"min(max(a,b),c)", "vss"},
    {"max(min(a,b),c)", "vss"},
    {"select(lt(a,b),c,select(lt(b,d),e,f))", "svsssv"}, /* … and their gradients */
    {"select(lt(a,b),c,select(lt(b,d),e,mul(f,g)))", "svsssvv"},
    {"select(lt(a,b),c,select(lt(d,a),e,f))", "vssssv"},
    {"div(a,add(b,exp(neg(c))))", "ssv"}, /* sigmoid, silu and its gradient */
    {"mul(a,div(b,add(c,exp(neg(a)))))", "vss"},
    {"add(mul(a,b),mul(mul(a,c),mul(b,sub(d,b))))", "vvvs"},
    {"mul(a,mul(b,sub(c,b)))", "vvs"},
    {"mul(a,sub(b,mul(c,c)))", "vsv"},
    {"exp(sub(a,b))", "vv vs"},                 /* softmax */
    {"sub(a,mul(b,add(mul(c,d),e)))", "vsvsv"}, /* momentum */
    {"add(mul(a,b),mul(mul(c,c),d))", "vsvs"},  /* mean of squares */
    /* updates that are left out where the loss is not finite: momentum, mean of squares, … */
    {"select(a,add(mul(b,c),d),b)", "svsv"},
    {"select(a,add(mul(b,c),mul(d,e)),b)", "svsvs"},
    {"select(a,add(mul(b,c),mul(mul(d,d),e)),b)", "svsvs"},
    /* … and parameters by momentum, with Nesterov's look ahead, and by Adam, with weight decay */
    {"select(a,sub(b,mul(c,d)),b)", "svvs svsv"},
    {"select(a,sub(b,mul(c,add(mul(d,e),f))),b)", "svsvsv"},
    {"select(a,sub(b,mul(div(c,add(mul(sqrt(d),e),f)),g)),b)", "svvvsss"},
    {"select(a,sub(sub(b,mul(b,c)),mul(div(d,add(mul(sqrt(e),f),g)),h)),b)", "svsvvsss"},
    {"select(lt(a,b),c,d)", "vsvv vsvs vssv svvs svsv svvv vsss svss vvvv"},
    {"select(le(a,b),c,d)", "vsvv vsvs vssv svvs svsv svvv"},
    {"select(le(a,b),c,add(d,e))", "vssvv"},
    {"select(le(a,b),c,mul(d,e))", "vssvs vssvv"},
    {"select(le(add(mul(sub(a,b),c),d),e),f,g)", "vvvvssv"}, /* … of a normalized value */
    {"select(le(add(mul(sub(a,b),c),d),e),f,add(g,h))", "vvvvssvv"},
};

static const char *const unary[] = {"v", NULL};
static const char *const binary[] = {"vv", "vs", "sv", NULL};
static const char *const choice[] = {"vvv", "vvs", "vsv", "vss", NULL};
static const char *const draw[] = {"vvvv", "vvss", "vsss", NULL};
static const char *const *const alone[] = {NULL, unary, binary, choice, draw};

typedef struct {
    uint8_t code[32];
    int n, prims;
    char leaf_type[GB_LOOP_LEAVES];
    int leaves;
} tree;

static void die(const char *why, const char *what)
{
    fprintf(stderr, "gen_loops: %s: %s\n", why, what);
    exit(1);
}

static int find_prim(const char *name, size_t length)
{
    for (int p = GB_P_ADD; p < GB_PRIM_COUNT; p++)
        if (strlen(gb_prims[p].name) == length && memcmp(gb_prims[p].name, name, length) == 0)
            return p;
    die("no such primitive", name);
    return 0;
}

static const char *parse(tree *t, const char *s, char type)
{
    size_t length = strcspn(s, "(,)");
    if (s[length] != '(') {
        int leaf = s[0] - 'a';
        t->code[t->n++] = (uint8_t)(GB_LEAF + leaf);
        t->leaf_type[leaf] = type;
        if (leaf >= t->leaves) t->leaves = leaf + 1;
        return s + length;
    }
    int p = find_prim(s, length);
    t->code[t->n++] = (uint8_t)p;
    t->prims++;
    s += length + 1;
    for (int i = 0; i < gb_prim_arity(p); i++) s = parse(t, s, gb_prims[p].type[i]) + 1;
    return s;
}

/* Appends the C text of the sub-tree at *at to out. */
static void render(const tree *t, const char *mode, int *at, char *out)
{
    uint8_t c = t->code[(*at)++];
    if (c & GB_LEAF) {
        int leaf = c - GB_LEAF;
        sprintf(out + strlen(out), mode[leaf] == 'v' ? "%c[i]" : "%c", 'a' + leaf);
        return;
    }
    char arg[4][1500] = {""};
    for (int i = 0; i < gb_prim_arity(c); i++) render(t, mode, at, arg[i]);
    for (const char *s = gb_prims[c].c; *s; s++) {
        size_t length = strlen(out);
        if (*s != '$')
            snprintf(out + length, 2, "%c", *s);
        else if (*++s == '0' + gb_prim_arity(c))
            strcat(out, "(uint32_t)imm");
        else
            strcat(out, arg[*s - '0']);
    }
}

static const char *c_type(char type)
{
    return type == 'f' ? "float" : "int32_t";
}

static void write_loop(const tree *t, const char *mode, int number)
{
    char text[3000] = "";
    int at = 0;
    render(t, mode, &at, text);
    printf("static void loop_%d(int64_t n, void *const *p, double imm)\n{\n    %s *o = p[0];\n",
           number, c_type(gb_prim_result(t->code[0])));
    for (int k = 0; k < t->leaves; k++) {
        const char *type = c_type(t->leaf_type[k]);
        if (mode[k] == 'v')
            printf("    const %s *%c = p[%d];\n", type, 'a' + k, k + 1);
        else
            printf("    const %s %c = *(const %s *)p[%d];\n", type, 'a' + k, type, k + 1);
    }
    printf("    GB_INDEPENDENT\n    for (int64_t i = 0; i < n; i++) o[i] = %s;\n}\n", text);
    printf("static const uint8_t code_%d[] = {", number);
    for (int i = 0; i < t->n; i++) printf(i ? ", %d" : "%d", t->code[i]);
    printf("};\n\n");
}

static struct {
    int prims;
    char mode[GB_LOOP_LEAVES + 1];
} rows[500];
static int n_rows;

static void add(const tree *t, const char *mode, size_t length)
{
    if (n_rows == 500) die("too many loops", mode);
    if ((size_t)t->leaves != length) die("a tree has more or fewer leaves", mode);
    memcpy(rows[n_rows].mode, mode, length);
    rows[n_rows].prims = t->prims;
    write_loop(t, rows[n_rows].mode, n_rows);
    n_rows++;
}

int main(void)
{
    printf("/* Written by gen_loops from the primitive table. */\n");
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        tree t = {.n = 0};
        parse(&t, trees[i].tree, 'f');
        for (const char *m = trees[i].modes; *m; m += strspn(m, " ")) {
            add(&t, m, strcspn(m, " "));
            m += strcspn(m, " ");
        }
    }
    for (int p = GB_P_ADD; p < GB_PRIM_COUNT; p++) {
        tree t = {.code = {(uint8_t)p}, .n = 1, .prims = 1, .leaves = gb_prim_arity(p)};
        for (int k = 0; k < t.leaves; k++) {
            t.code[t.n++] = (uint8_t)(GB_LEAF + k);
            t.leaf_type[k] = gb_prims[p].type[k];
        }
        for (const char *const *m = alone[t.leaves]; *m; m++) add(&t, *m, strlen(*m));
    }
    printf("static const gb_loop loop_table[] = {\n");
    for (int prims = 16; prims > 0; prims--)
        for (int i = 0; i < n_rows; i++)
            if (rows[i].prims == prims)
                printf("    {loop_%d, code_%d, \"%s\", %d},\n", i, i, rows[i].mode, prims);
    printf("};\n");
    return 0;
}
