#include <stdlib.h>
#include <string.h>

#include <gimbal/recipe.h>

#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    gb_recipe *recipe = NULL;
    gb_error err;
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, bytes, size);
    text[size] = 0;
    if (gb_recipe_parse(text, "fuzz", NULL, 0, &recipe, &err) == GB_OK) free(gb_recipe_text(recipe));
    gb_recipe_destroy(&recipe);
    free(text);
    return 0;
}
